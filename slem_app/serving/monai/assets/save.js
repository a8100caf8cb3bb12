// A bar in OHIF that saves the segmentation which this server last gave this reader: the viewer's own panel cannot save.
// It also says which sequences the segmentation was made from, and in red what a reader should know of it: the viewer asks for the label map alone
// and would not tell.
// And a mended menu: this release's "Export DICOM SEG" in the Segmentation mode forgets to say where to, needs slices that may not be loaded, and says
// nothing when it fails.
(() => {
  const bar = document.createElement('div'), button = document.createElement('button'), text = document.createElement('span');
  const sequences = document.createElement('output'), warnings = document.createElement('div');
  bar.id = 'slem-save';
  bar.style.cssText = 'position:fixed;left:50%;bottom:8px;transform:translateX(-50%);z-index:1000;display:none;gap:10px;align-items:center;' +
    'padding:4px 10px;border-radius:6px;background:#041c4a;color:#fff;font:13px Inter,sans-serif;max-width:80vw';
  button.style.cssText = 'padding:4px 12px;border:0;border-radius:4px;background:#348cfd;color:#fff;cursor:pointer;white-space:nowrap';
  button.textContent = 'Save as DICOM SEG';
  button.title = 'Saves the segmentation that the server last showed you of this study, as a new version';
  warnings.style.cssText = 'color:#ff8080;max-height:6em;overflow:auto;white-space:pre-line';
  bar.append(button, text, sequences, warnings);
  document.addEventListener('DOMContentLoaded', () => document.body.append(bar));
  if (document.body) document.body.append(bar);

  const series = () => {
    try {
      const { viewportGridService, displaySetService } = window.services;
      const shown = viewportGridService.getState().viewports.get(viewportGridService.getActiveViewportId());
      return displaySetService.getDisplaySetByUID(shown.displaySetInstanceUIDs[0]).SeriesInstanceUID;
    } catch {
      return ''; // no study is open
    }
  };
  // It exports from slices in its memory, and where one is not loaded yet it fails without a word: so they are loaded first.
  const slices = async segmentation => {
    const { cache, imageLoader } = window.cornerstone, { state } = window.cornerstoneTools.segmentation;
    const images = state.getSegmentation(segmentation).representationData.Labelmap.imageIds;
    const missing = images.map(id => cache.getImage(id)?.referencedImageId).filter(id => id && !cache.getImage(id));
    await Promise.all(missing.map(id => imageLoader.loadAndCacheImage(id)));
  };
  const mend = () => {
    for (const name of ['storeSegmentation', 'downloadSegmentation']) {
      const command = window.commandsManager?.contexts?.SEGMENTATION?.[name];
      if (!command || command.mended) continue;
      const done = command.commandFn;
      command.commandFn = async options => {
        try {
          await slices(options.segmentationId);
          return await done({ dataSource: window.extensionManager.getActiveDataSource()[0], ...options });
        } catch (error) {
          window.services.uiNotificationService.show({ title: 'Not exported', message: error?.message || 'a slice cannot be loaded', type: 'error' });
          throw error;
        }
      };
      command.mended = true;
    }
  };
  setInterval(() => {
    mend();
    sequences.hidden = warnings.hidden = sequences.dataset.page !== location.search;
    bar.style.display = location.pathname.endsWith('/monai-label') && series() ? 'flex' : 'none';
  }, 500);

  const tell = request => {
    const said = request.getResponseHeader('Slem-Sequences');
    if (!said) return;
    const { used, missing, notes } = JSON.parse(decodeURIComponent(said));
    sequences.textContent = `Segmented from ${used.join(', ')}${missing.length ? `; missing: ${missing.join(', ')}` : ''}`;
    warnings.textContent = (notes || []).join('\n');
    sequences.dataset.page = location.search; // of this study
    sequences.hidden = warnings.hidden = false;
  };
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (...all) {
    this.addEventListener('load', () => tell(this));
    return open.apply(this, all);
  };

  button.addEventListener('click', async () => {
    button.disabled = true;
    text.textContent = 'Saving …';
    try {
      const answer = await fetch(`/slem/save?image=${encodeURIComponent(series())}`, { method: 'POST' });
      const told = await answer.json();
      text.textContent = answer.ok ? told.message : `Not saved: ${told.detail}`;
    } catch (error) {
      text.textContent = `Not saved: the server does not answer (${error.message})`;
    }
    button.disabled = false;
  });
})();
