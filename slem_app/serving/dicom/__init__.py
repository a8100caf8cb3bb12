"""DICOMweb: query, retrieve, store, the proxy to a PACS and results sent to it."""
