"""Training of the editor, the network behind clicks: segmentations with errors to start from, corrections
that are asked for, the loss.

    starts = Starts(folder)
    make_starts(open_source(data), load_model("slem_brain"), starts, (1.0, 1.0, 1.0), StartSettings())
    train_editor(load_editor_recipe("brain_editor"), starts, starts.ids(), run)
"""
