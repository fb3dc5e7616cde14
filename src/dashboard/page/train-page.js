/** The page Train: starts a training on a folder of this machine, shows it live, stops and continues it, and publishes. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { html } from './html.js'
import { jobs, runWorded, startJob, stopJob, useRead } from './node.js'
import { Action, Badge, Confirm, Field, Loading, Meter, Panel, Table, usePage } from './parts.js'
import { count, duration } from './words.js'

export function Train() {
  const [isBusy, setBusy] = useState(false)
  const { value, error, reload } = useRead(jobs, [], isBusy ? 1000 : 10_000)
  if (value === undefined) return html`<${Loading} error=${error} />`
  const own = value.filter(({ command }) => command === 'train' || command === 'publish')
  const running = own.some(({ state }) => state === 'running')
  if (running !== isBusy) setBusy(running)
  return html`
    ${[...own]
      .reverse()
      .map((job) =>
        job.command === 'train'
          ? html`<${Training} key=${job.id} job=${job} reload=${reload} />`
          : html`<${Publication} key=${job.id} job=${job} />`,
      )}
    <${Start} reload=${reload} />`
}

/** @returns numbers from the fields that hold one */
function numbers(form, names) {
  return Object.fromEntries(
    names
      .map((name) => [name, form.get(name)])
      .filter(([, v]) => v)
      .map(([n, v]) => [n, Number(v)]),
  )
}

function Start({ reload }) {
  const { role, say } = usePage()
  const form = useRef()
  if (role !== 'operator') return html`<p class="quiet">This link may only look.</p>`
  const start = async (event) => {
    event.preventDefault()
    const data = new FormData(form.current)
    const paths = data
      .get('data')
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)
    try {
      await startJob('train', { name: data.get('name'), data: paths, ...numbers(data, ['steps', 'rank']) })
      say(`training ${data.get('name')} has started`)
      await reload()
    } catch (error) {
      say(error.message, 'bad')
    }
  }
  return html`<${Panel} title="New training">
    <form ref=${form} class="form" onSubmit=${start}>
      <${Field} label="Name of the expert" hint="letters, digits, dots and dashes; a name that was used before continues that training">
        <input name="name" required pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" /><//>
      <${Field} label="Files and folders on this machine" hint="one path per line; nothing of them leaves this machine; empty to continue a training">
        <textarea name="data" rows="2" placeholder="/srv/texts"></textarea><//>
      <${Field} label="Steps" hint="default 200"><input name="steps" type="number" min="1" /><//>
      <${Field} label="Rank" hint="empty: as fits the memory; 0: a whole expert"><input name="rank" type="number" min="0" /><//>
      <p><button type="submit" class="primary">Start</button></p>
    </form>
  <//>`
}

const STATES = { running: 'busy', done: 'good', stopped: 'warn', failed: 'bad' }
const PHASES = {
  'public-text': 'reading the public text',
  'router-rows': 'computing router rows',
  compile: 'compiling the model',
  'first-step': 'computing the first step',
  score: 'scoring',
}

function Training({ job, reload }) {
  const { say } = usePage()
  const [question, ask] = useState()
  const { request, state, progress, points, outcome, error } = job
  const result = outcome?.result
  const latest = points.at(-1)
  const name = request.name
  const again = async () => {
    await startJob('train', request)
    await reload()
  }
  const publish = async () => {
    const { words } = await runWorded('publish', { name, dryRun: true })
    ask({
      title: `Publish ${name}?`,
      text: words,
      action: 'Publish',
      run: async () => {
        await startJob('publish', { name })
        say(`${name} is being published`)
        await reload()
      },
    })
  }
  return html`<${Panel} title=${`Training ${name}`} aside=${html`<${Badge} kind=${STATES[state]}>${state}<//>`}>
    ${error && html`<p class="alert" role="alert">${error}</p>`}
    ${state === 'running' && html`<p role="status">${progressWords(progress)}</p>`}
    ${
      latest &&
      html`<${Meter} share=${latest.step / latest.totalSteps} label=${`step ${latest.step} of ${latest.totalSteps}`} />
        <dl class="facts"><div><dt>Step</dt><dd>${latest.step} of ${latest.totalSteps}</dd></div>
          <div><dt>Loss</dt><dd>${latest.loss.toFixed(3)}</dd></div>
          <div><dt>Speed</dt><dd>${Math.round(latest.tokensPerSecond)} tokens/s</dd></div>
          ${state === 'running' && html`<div><dt>Left</dt><dd>${duration(latest.secondsLeft)}</dd></div>`}</dl>
        <${Curve} points=${points} />`
    }
    ${
      result?.own &&
      html`<p>Bits per byte on held-out text of its own: ${result.own.before.toFixed(3)} before, <strong>${result.own.after.toFixed(3)}</strong> after; less is better.
        On public text: ${result.public.before.toFixed(3)} before, ${result.public.after.toFixed(3)} after.</p>`
    }
    <p class="buttons">
      ${
        state === 'running' &&
        html`<${Action} onAct=${async () => {
          await stopJob(job.id)
          say('the training keeps its checkpoint and can go on later')
          await reload()
        }}>Pause<//>`
      }
      ${(state === 'stopped' || state === 'failed') && html`<${Action} kind="primary" onAct=${again}>Continue<//>`}
      ${state === 'done' && html`<${Action} kind="primary" onAct=${publish}>Publish …<//>`}
    </p>
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />
  <//>`
}

function progressWords(progress) {
  if (progress === undefined) return 'starting'
  switch (progress.stage) {
    case 'step':
      return 'training'
    case 'phase':
      return PHASES[progress.phase] ?? progress.phase
    case 'prepared': {
      const { train, heldOut } = progress.stats
      return `found ${count(train.documents, 'document')} with ${train.tokens} tokens to train on, and ${count(heldOut.documents, 'document')} for scoring`
    }
    case 'warning':
      return progress.message ?? 'see the log'
    default:
      return progress.stage === undefined ? 'waiting' : 'reading the text'
  }
}

function Publication({ job: { request, state, error } }) {
  return html`<${Panel} title=${`Publishing ${request.name}`} aside=${html`<${Badge} kind=${STATES[state]}>${state}<//>`}>
    ${error && html`<p class="alert" role="alert">${error}</p>`}
    ${state === 'done' && html`<p>Published. <a href="#/experts">What others say of it</a> appears as they judge it.</p>`}
  <//>`
}

let plots
/** Loads the library for curves when the first one is shown. */
function loadPlots() {
  plots ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement('link'), {
      rel: 'stylesheet',
      href: '/assets/vendor/uplot.css',
    })
    const script = Object.assign(document.createElement('script'), { src: '/assets/vendor/uplot.js' })
    script.onload = () => resolve(globalThis.uPlot)
    script.onerror = reject
    document.head.append(style, script)
  })
  return plots
}

const CURVE_HEIGHT = 180
/** Rows of the table that says what the curve shows. */
const TABLE_ROWS = 10

/** The loss by step, as a picture and as a table. */
function Curve({ points }) {
  const box = useRef()
  const plot = useRef()
  const data = [points.map(({ step }) => step), points.map(({ loss }) => loss)]
  useEffect(() => {
    let isShown = true
    void loadPlots().then((Plot) => {
      if (!isShown) return
      const color = getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()
      const text = getComputedStyle(document.documentElement).getPropertyValue('--quiet').trim()
      const axis = { stroke: text, grid: { stroke: 'rgba(128,128,128,0.2)' }, ticks: { show: false } }
      plot.current = new Plot(
        {
          width: box.current.clientWidth,
          height: CURVE_HEIGHT,
          legend: { show: false },
          scales: { x: { time: false } },
          axes: [axis, axis],
          series: [{}, { stroke: color, width: 2 }],
        },
        data,
        box.current,
      )
    })
    const fit = () => plot.current?.setSize({ width: box.current.clientWidth, height: CURVE_HEIGHT })
    addEventListener('resize', fit)
    return () => {
      isShown = false
      removeEventListener('resize', fit)
      plot.current?.destroy()
    }
  }, [])
  useEffect(() => plot.current?.setData(data), [points.length])
  const every = Math.max(1, Math.ceil(points.length / TABLE_ROWS))
  return html`<div class="curve" ref=${box} aria-hidden="true"></div>
    <details><summary>The loss as a table</summary>
      <${Table} caption="Loss by step" rows=${points.filter((_, i) => i % every === 0)} keyOf=${({ step }) => step} columns=${[
        { name: 'Step', isNumber: true, of: ({ step }) => step },
        { name: 'Loss', isNumber: true, of: ({ loss }) => loss.toFixed(3) },
      ]} /></details>`
}
