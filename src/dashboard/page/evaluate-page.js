/** The page Evaluate: bits per byte of the public model, each expert and the composition on texts of this machine. */
import { useRef, useState } from 'preact/hooks'
import { mark } from './experts-colors.js'
import { html } from './html.js'
import { jobs, startJob, stopJob, useRead } from './node.js'
import { Action, Field, Loading, linesOf, Mark, Meter, Panel, Table, usePage } from './parts.js'
import { duration, percent } from './words.js'

export function Evaluate() {
  const { role, say } = usePage()
  const [isBusy, setBusy] = useState(false)
  const { value, error, reload } = useRead(jobs, [], isBusy ? 1000 : 10_000)
  const form = useRef(null)
  if (value === undefined) return html`<${Loading} error=${error} />`
  const job = value.findLast(({ command }) => command === 'evaluate')
  const isRunning = job?.state === 'running'
  if (isRunning !== isBusy) setBusy(isRunning)
  const start = async (event) => {
    event.preventDefault()
    const lines = linesOf(new FormData(form.current), 'data')
    const data = lines.map((line) => {
      const [, name, path] = /^(?:([^=/]+)=)?(.*)$/.exec(line)
      return { name: name ?? path.split('/').filter(Boolean).at(-1) ?? path, path }
    })
    try {
      await startJob('evaluate', { publicText: true, optOut: true, ...(data.length === 0 ? {} : { data }) })
      await reload()
    } catch (failure) {
      say(failure.message, 'bad')
    }
  }
  return html`
    ${
      role === 'operator' &&
      html`<${Panel} title="Texts"><form ref=${form} class="form" onSubmit=${start}>
        <${Field} label="Files and folders on this machine" hint="one per line, as in letters=/srv/letters; empty: the public text only"><textarea name="data" rows="2"></textarea><//>
        <p class="buttons"><button type="submit" class="primary" disabled=${isRunning}>Evaluate</button>
        ${isRunning && html`<${Action} onAct=${() => stopJob(job.id)}>Stop<//>`}</p></form><//>`
    }
    ${job?.error && html`<p class="alert" role="alert">${job.error}</p>`}
    ${
      isRunning &&
      html`<p role="status">scoring, ${duration(job.progress?.secondsLeft ?? 0)} left</p>
        <${Meter} share=${(job.progress?.done ?? 0) / (job.progress?.total ?? 1)} label="scored" />`
    }
    ${job?.outcome && html`<${Report} report=${job.outcome.result} />`}`
}

function Report({ report: { experts, domains, macro, routerNote } }) {
  const rows = [...domains, ...(domains.length > 1 ? [{ name: 'mean', bitsPerByte: macro }] : [])]
  return html`<${Panel} title="Bits per byte" aside=${html`<span class="quiet">less is better</span>`}>
    ${routerNote && html`<p class="quiet">${routerNote}</p>`}
    <${Table} caption="Bits per byte by text" rows=${rows} keyOf=${({ name }) => name} columns=${[
      { name: 'Text', of: ({ name }) => name },
      { name: 'Public model', isNumber: true, of: ({ bitsPerByte }) => bitsPerByte.public.toFixed(3) },
      ...experts.map(({ institution, name }, i) => ({
        name: `${institution} / ${name}`,
        isNumber: true,
        of: ({ bitsPerByte }) => bitsPerByte.alone[i].toFixed(3),
      })),
      {
        name: 'Composition',
        isNumber: true,
        of: ({ bitsPerByte }) => html`<strong>${bitsPerByte.composed.toFixed(3)}</strong>`,
      },
    ]} />
  <//>
  ${
    experts.length > 0 &&
    html`<${Panel} title="Composition without one expert" aside=${html`<span class="quiet">bits per byte, with the change</span>`}>
      <${Table} caption="Bits per byte without one expert" rows=${rows.filter(({ bitsPerByte }) => bitsPerByte.without !== undefined)} keyOf=${({ name }) => name}
        columns=${[
          { name: 'Text', of: ({ name }) => name },
          ...experts.map(({ institution, name }, i) => ({
            name: `without ${institution} / ${name}`,
            isNumber: true,
            of: ({ bitsPerByte: { without, composed } }) => {
              const change = without[i] - composed
              return `${without[i].toFixed(3)} (${change < 0 ? '' : '+'}${change.toFixed(3)})`
            },
          })),
        ]} />
    <//>`
  }
  <${Panel} title="Routing" aside=${html`<span class="quiet">share of each expert, by layer</span>`}>
    <ul class="legend">${[
      'public model',
      ...experts.map(({ institution, name }) => `${institution} / ${name}`),
    ].map((name, i) => html`<li key=${name}><${Mark} index=${i} /> ${name}</li>`)}</ul>
    ${domains.map(
      ({ name, layerShares, loadShares }) => html`<div class="routing" key=${name}>
        <h3>${name}</h3>
        ${layerShares.map(
          (
            shares,
            layer,
          ) => html`<div class="routing-row" key=${layer} role="img" aria-label=${`layer ${layer + 1}: ${shares.map((share, i) => `${mark(i).letter} ${percent(share)}`).join(', ')}`}>
            ${shares.map((share, i) => html`<span data-color=${mark(i).color} style=${{ width: `${100 * share}%` }}>${share > 0.08 ? mark(i).letter : ''}</span>`)}
          </div>`,
        )}
        <p class="quiet">all layers: ${loadShares.map((share, i) => `${mark(i).letter} ${percent(share)}`).join(', ')}</p>
      </div>`,
    )}
  <//>`
}
