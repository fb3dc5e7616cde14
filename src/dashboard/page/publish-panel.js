/**
 * Publishing an expert from the page Train: what it shall state, a preview of everything that would leave this machine,
 * and the publication itself.
 */
import { useEffect, useRef } from 'preact/hooks'
import { html } from './html.js'
import { startJob, stopJob } from './node.js'
import { Action, Badge, Field, fieldOf, Panel, useFailure, usePage } from './parts.js'
import { duration } from './words.js'

/** @param name of the training; @param onClose called when the preview has begun, or nothing shall be published */
export function PublishForm({ name, reload, onClose }) {
  const { say } = usePage()
  const form = useRef(null)
  const [error, setError] = useFailure()
  useEffect(() => form.current?.querySelector('input').focus(), [])
  const preview = async (event) => {
    event.preventDefault()
    const given = new FormData(form.current)
    const statistics = given.get('statistics')
    try {
      await startJob('publish', {
        name,
        dryRun: true,
        ...(given.get('domain') === '' ? {} : { domain: given.get('domain') }),
        ...(given.get('license') === '' ? {} : { license: given.get('license') }),
        ...(statistics === '' ? {} : { statistics }),
        ...(given.get('audit') === null ? { noAudit: true } : {}),
        ...(fieldOf(given, 'risk') === '' ? {} : { acceptRisk: fieldOf(given, 'risk') }),
      })
      say(`looking at what publishing ${name} means`)
      onClose()
      await reload()
    } catch (failure) {
      setError(failure)
    }
  }
  return html`<${Panel} title=${`Publish ${name}`}>
    <form ref=${form} class="form" onSubmit=${preview}>
      <${Field} label="Domain" hint="what the text is about, for the other members"><input name="domain" maxlength="80" /><//>
      <${Field} label="Licence" hint="SPDX expression; empty: what the members agreed among themselves"><input name="license" maxlength="64" /><//>
      <${Field} label="Router statistics" hint="how often each token occurs in the text; others route with it"><select name="statistics">
        <option value="">as usual for this training</option><option value="exact">exact</option><option value="none">none</option></select><//>
      <label class="check"><input type="checkbox" name="audit" checked /> attack the expert first, as others could</label>
      <details class="more"><summary>If an audit stops it</summary><div class="form">
        <${Field} label="Reason to publish all the same" hint="others see it with the package; better: more text, fewer steps or an epsilon"><input name="risk" maxlength="200" /><//>
      </div></details>
      ${error !== undefined && html`<p class="alert" role="alert">${error.message}</p>`}
      <p class="buttons"><button type="submit" class="primary">Preview</button><button type="button" onClick=${onClose}>Cancel</button></p>
    </form>
  <//>`
}

const STATES = { running: 'busy', done: 'good', stopped: 'warn', failed: 'bad' }
const STAGES = {
  cut: 'reducing the rank',
  calibrate: 'calibrating and scoring',
  audit: 'attacking the expert as others could',
  pack: 'packing',
}

/** A publication, or the preview of one. */
export function Publication({ job, reload, ask }) {
  const { say } = usePage()
  const { request, state, progress, outcome, error } = job
  const { name, dryRun, ...options } = request
  const publish = () =>
    ask({
      title: `Publish ${name}?`,
      text: [
        'Everything that the preview lists leaves this machine, signed by this institution. Every member fetches and judges it, and uses it if it passes.',
        'A withdrawal ends its use later, but nobody can make others forget weights that they have received.',
      ],
      action: 'Publish',
      isHarmless: true,
      run: async () => {
        await startJob('publish', { name, ...options })
        say(`${name} is being published`)
        await reload()
      },
    })
  const title = dryRun ? `What publishing ${name} means` : `Publishing ${name}`
  return html`<${Panel} title=${title} aside=${html`<${Badge} kind=${STATES[state]}>${state}<//>`}>
    ${error && html`<p class="alert" role="alert">${error}</p>`}
    ${state === 'running' && html`<p role="status">${progressWords(progress)} <${Action} kind="small" onAct=${() => stopJob(job.id)}>Stop<//></p>`}
    ${outcome && html`<pre class="words">${outcome.words.join('\n')}</pre>`}
    ${dryRun && state === 'done' && html`<p><${Action} kind="primary" onAct=${async () => publish()}>Publish<//></p>`}
    ${!dryRun && state === 'done' && html`<p>Published. <a href="#/experts">What others say of it</a> appears there as they judge it.</p>`}
  <//>`
}

function progressWords(progress) {
  if (progress === undefined) return 'starting'
  const what =
    progress.stage === 'judge' ? `judging: ${progress.check}` : (STAGES[progress.stage] ?? 'working')
  return `${what}${progress.secondsLeft === undefined ? '' : `, ${duration(progress.secondsLeft)} left`}`
}
