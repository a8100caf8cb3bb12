// A bar in OHIF that saves the segmentation which this server last gave this reader: the viewer's own panel cannot save.
// It also says which sequences the segmentation was made from, what was done to them, and in red what the reader is warned of: the viewer asks for
// the label map alone and would not tell. So are its own notifications mended: beside a warning none says "Successful", and a failure has its reason.
// And a mended menu: this release's "Export DICOM SEG" in the Segmentation mode forgets to say where to, needs slices that may not be loaded, and says
// nothing when it fails.
(() => {
  const bar = document.createElement('div'), button = document.createElement('button'), text = document.createElement('span');
  const sequences = document.createElement('output'), notes = document.createElement('div'), warnings = document.createElement('div');
  bar.id = 'slem-save';
  bar.style.cssText = 'position:fixed;left:50%;bottom:8px;transform:translateX(-50%);z-index:1000;display:none;gap:10px;align-items:center;' +
    'padding:4px 10px;border-radius:6px;background:#041c4a;color:#fff;font:13px Inter,sans-serif;max-width:80vw';
  button.style.cssText = 'padding:4px 12px;border:0;border-radius:4px;background:#1f6feb;color:#fff;cursor:pointer;white-space:nowrap';
  button.textContent = 'Save as DICOM SEG';
  button.title = 'Saves the segmentation that the server last showed you of this study, as a new version';
  notes.style.cssText = 'color:#b8c7e0;max-height:6em;overflow:auto;white-space:pre-line';
  warnings.style.cssText = 'color:#ff8080;max-height:6em;overflow:auto;white-space:pre-line';
  warnings.setAttribute('role', 'alert');
  bar.append(button, text, sequences, notes, warnings);
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
    speakPlainly();
    sequences.hidden = notes.hidden = warnings.hidden = sequences.dataset.page !== location.search;
    bar.style.display = location.pathname.endsWith('/monai-label') && series() ? 'flex' : 'none';
  }, 500);

  let warned = [], refused = ''; // of the answer that the viewer is about to speak of
  const reason = request => {
    try {
      const body = request.responseType === 'arraybuffer' ? new TextDecoder().decode(request.response) : request.responseText;
      return String(JSON.parse(body).detail || '');
    } catch {
      return ''; // no answer, or none of this server
    }
  };
  const tell = request => {
    if (!/\/infer\//.test(request.responseURL)) return;
    refused = request.status === 200 ? '' : reason(request);
    warned = [];
    const said = request.getResponseHeader('Slem-Sequences');
    if (!said) return;
    const told = JSON.parse(decodeURIComponent(said));
    warned = told.warnings.map(one => one.text);
    sequences.textContent = `Segmented from ${told.used.join(', ')}${told.missing.length ? `; missing: ${told.missing.join(', ')}` : ''}`;
    notes.textContent = told.notes.join('\n');
    warnings.textContent = warned.join('\n');
    sequences.dataset.page = location.search; // of this study
    sequences.hidden = notes.hidden = warnings.hidden = false;
  };
  // The viewer's notifications of a segmentation: of success only where nothing is to be warned of, of failure with the reason.
  const speakPlainly = () => {
    const service = window.services?.uiNotificationService && Object.getPrototypeOf(window.services.uiNotificationService);
    if (!service || service.show.mended) return;
    const show = service.show;
    service.show = function (options) {
      if (!/^MONAI Label - /.test(options?.title || '')) return show.call(this, options);
      if (options.type === 'success' && warned.length)
        options = { ...options, type: 'error', message: `Segmented, with a warning: ${warned.join(' ')}`, duration: 30000 };
      else if (options.type === 'error' && refused)
        options = { ...options, message: `Not segmented: ${refused}`, duration: 30000 };
      return show.call(this, options);
    };
    service.show.mended = true;
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
