"""Training of the editor, the network behind clicks: segmentations with errors to start from, corrections
that are asked for, the loss.

    starts, model = Starts(folder), load_model("slem_brain")
    make_starts(open_source(data), Predictor(model), starts, (1.0, 1.0, 1.0), StartSettings())
    train_editor(load_editor_recipe("brain_editor"), starts, starts.ids(), model.card.labels, run)
"""
