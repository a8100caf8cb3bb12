"""What is kept on disk of labels: versions, drafts, DICOM results, and their export."""
