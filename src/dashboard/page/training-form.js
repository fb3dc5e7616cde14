/** The form that starts a training of the page Train: looks at the text first, without writing or training anything. */
import { useRef, useState } from 'preact/hooks'
import { html } from './html.js'
import { runWorded, startJob } from './node.js'
import { Field, fieldOf, linesOf, Panel, useFailure, useOptional, usePage } from './parts.js'

/** @param reload called when a training has started */
export function NewTraining({ reload }) {
  const { role, say } = usePage()
  const form = useRef(null)
  /** @type {import('./parts.js').Optional<string[]>} */
  const [preview, setPreview] = useOptional()
  const [error, setError] = useFailure()
  const [isBusy, setBusy] = useState(false)
  if (role !== 'operator') return html`<p class="quiet">This link may only look.</p>`
  const submit = async (event) => {
    event.preventDefault()
    setBusy(true)
    setError(undefined)
    setPreview(undefined)
    try {
      const request = requestOf(new FormData(form.current))
      if (event.submitter?.value === 'preview')
        setPreview((await runWorded('train', { ...request, dryRun: true })).words)
      else {
        await startJob('train', request)
        say(`training ${request.name} has started`)
        await reload()
      }
    } catch (failure) {
      setError(failure)
    } finally {
      setBusy(false)
    }
  }
  return html`<${Panel} title="New training">
    <form ref=${form} class="form" onSubmit=${submit} onInput=${() => setPreview(undefined)}>
      <${Field} label="Name of the expert" hint="letters, digits, dots and dashes; a name that was used before continues that training">
        <input name="name" required pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" /><//>
      <${Field} label="Files and folders on this machine" hint="one path per line; nothing of them leaves this machine; empty to continue a training">
        <textarea name="data" rows="2" placeholder="/srv/texts"></textarea><//>
      <details class="more"><summary>More choices</summary><div class="form">
        <${Field} label="Column" hint="of tables; empty: the column text, or the only one"><input name="column" /><//>
        <${Field} label="Steps" hint="empty: 200, or 60 with a guarantee"><input name="steps" type="number" min="1" /><//>
        <${Field} label="Rank" hint="empty: as fits the memory; 0: a whole expert"><input name="rank" type="number" min="0" /><//>
        <${Field} label="Epsilon" hint="a guarantee of differential privacy, as in 8; empty: none"><input name="epsilon" type="number" min="0.001" max="100" step="any" /><//>
        <${Field} label="What it protects"><select name="unit"><option value="document">every document</option><option value="source">everything of one folder or source</option></select><//>
      </div></details>
      ${error !== undefined && html`<p class="alert" role="alert">${error.message}</p>`}
      ${preview !== undefined && html`<pre class="words" role="status">${preview.join('\n')}</pre>`}
      <p class="buttons"><button type="submit" value="preview" disabled=${isBusy}>Look at the text</button>
        <button type="submit" class="primary" value="start" disabled=${isBusy}>Start</button>
        ${isBusy && html`<span role="status">reading …</span>`}</p>
    </form>
  <//>`
}

/** The request of the command `train`; fields that are empty are left out. */
function requestOf(given) {
  const text = (name) => fieldOf(given, name)
  const number = (name, factor = 1) =>
    text(name) === '' ? {} : { [name]: Math.round(Number(text(name)) * factor) }
  return {
    name: text('name'),
    data: linesOf(given, 'data'),
    ...(text('column') === '' ? {} : { column: text('column') }),
    ...number('steps'),
    ...number('rank'),
    ...(text('epsilon') === '' ? {} : { ...number('epsilon', 1000), unit: text('unit') }),
  }
}
