/** The page Train: starts trainings, shows them live, stops, continues and deletes them, and publishes their experts. */
import { useState } from 'preact/hooks'
import { Curve } from './curve.js'
import { html } from './html.js'
import { jobs, run, startJob, stopJob, useCommand, useRead } from './node.js'
import {
  Action,
  Badge,
  Confirm,
  Loading,
  Meter,
  Panel,
  Table,
  useOptional,
  usePage,
  useQuestion,
} from './parts.js'
import { Publication, PublishForm } from './publish-panel.js'
import { NewTraining } from './training-form.js'
import { count, duration, size } from './words.js'

export function Train() {
  const [isBusy, setBusy] = useState(false)
  const started = useRead(jobs, [], isBusy ? 1000 : 10_000)
  const known = useCommand('trainings', {}, isBusy ? 2000 : 10_000)
  const [question, ask] = useQuestion()
  /** @type {import('./parts.js').Optional<string>} */
  const [published, setPublished] = useOptional()
  if (started.value === undefined || known.value === undefined)
    return html`<${Loading} error=${started.error ?? known.error} />`
  const names = new Set(known.value.trainings.map(({ name }) => name))
  // A training that was stopped and deleted leaves nothing to go on with.
  const isDeleted = ({ command, state, request }) =>
    command === 'train' && (state === 'stopped' || state === 'done') && !names.has(request.name)
  const own = started.value.filter(
    (job) => (job.command === 'train' || job.command === 'publish') && !isDeleted(job),
  )
  const running = own.some(({ state }) => state === 'running')
  if (running !== isBusy) setBusy(running)
  const reload = () => Promise.all([started.reload(), known.reload()])
  return html`
    ${published !== undefined && html`<${PublishForm} key=${published} name=${published} reload=${reload} onClose=${() => setPublished(undefined)} />`}
    ${[...own]
      .reverse()
      .map((job) =>
        job.command === 'train'
          ? html`<${Training} key=${job.id} job=${job} reload=${reload} ask=${ask} onPublish=${setPublished} />`
          : html`<${Publication} key=${job.id} job=${job} reload=${reload} ask=${ask} />`,
      )}
    <${Known} trainings=${known.value.trainings} reload=${reload} ask=${ask} onPublish=${setPublished} />
    <${NewTraining} reload=${reload} />
    <${Confirm} question=${question} onClose=${() => ask(undefined)} />`
}

const JOB_STATES = { running: 'busy', done: 'good', stopped: 'warn', failed: 'bad' }
const STATES = { running: 'busy', waiting: 'busy', interrupted: 'warn', finished: 'good' }
const PHASES = {
  'public-text': 'reading the public text',
  'router-rows': 'computing router rows',
  compile: 'compiling the model',
  'first-step': 'computing the first step',
  score: 'scoring on held-out text',
}

/**
 * Asks before everything of a training is deleted.
 * @param {(question: import('./parts.js').Question) => void} ask
 */
function forget(name, ask, say, reload) {
  ask({
    title: `Delete the training ${name}?`,
    text: [
      'Its tokens, checkpoints, held-out text and scores are deleted from this machine. This cannot be undone.',
      'The files that it was trained on stay where they are. A package that was published stays published until you withdraw it. What the text has spent of its privacy stays counted.',
    ],
    action: 'Delete',
    run: async () => {
      await run('forget', { name })
      say(`the training ${name} is deleted`)
      await reload()
    },
  })
}

/** A training that was started from a page. */
function Training({ job, reload, ask, onPublish }) {
  const { say } = usePage()
  const { request, state, progress, stages, points, outcome, error } = job
  const { name } = request
  const result = outcome?.result
  const latest = points.at(-1)
  const memory = stages.forecast?.residentBytes ?? stages.plan?.bytes
  const pause = async () => {
    await stopJob(job.id)
    say('the training keeps its checkpoint and can go on later')
    await reload()
  }
  const stop = () =>
    ask({
      title: `Stop the training ${name} and delete it?`,
      text: [
        'It stops now, and its tokens, checkpoints and held-out text are deleted from this machine. This cannot be undone.',
        'To go on later instead, cancel and choose Pause.',
      ],
      action: 'Stop and delete',
      run: async () => {
        await stopJob(job.id)
        await ended(job.id)
        await run('forget', { name })
        say(`the training ${name} is deleted`)
        await reload()
      },
    })
  return html`<${Panel} title=${`Training ${name}`} aside=${html`<${Badge} kind=${JOB_STATES[state]}>${state}<//>`}>
    ${error && html`<p class="alert" role="alert">${error}</p>`}
    ${state === 'running' && html`<p role="status">${progressWords(progress)}</p>`}
    ${stages.prepared && html`<p class="quiet">${preparedWords(stages.prepared)}</p>`}
    ${stages.warning && html`<p><${Badge} kind="warn">${stages.warning.message}<//></p>`}
    ${
      latest &&
      html`<${Meter} share=${latest.step / latest.totalSteps} label=${`step ${latest.step} of ${latest.totalSteps}`} />
        <dl class="facts"><div><dt>Step</dt><dd>${latest.step} of ${latest.totalSteps}</dd></div>
          <div><dt>Loss</dt><dd>${latest.loss.toFixed(3)}</dd></div>
          <div><dt>Speed</dt><dd>${Math.round(latest.tokensPerSecond)} tokens/s</dd></div>
          ${memory !== undefined && html`<div><dt>Memory</dt><dd>${size(memory)}</dd></div>`}
          ${stages.privacy && html`<div><dt>Epsilon</dt><dd>${stages.privacy.epsilon} for each ${stages.privacy.unit}</dd></div>`}
          ${state === 'running' && html`<div><dt>Left</dt><dd>${duration(latest.secondsLeft)}</dd></div>`}</dl>
        <${Curve} points=${points} />`
    }
    ${
      result?.own &&
      html`<p>Bits per byte on its held-out text: ${result.own.before.toFixed(3)} before, <strong>${result.own.after.toFixed(3)}</strong> after; less is better.
        On public text: ${result.public.before.toFixed(3)} before, ${result.public.after.toFixed(3)} after.</p>`
    }
    <p class="buttons">
      ${state === 'running' && html`<${Action} onAct=${pause}>Pause<//><${Action} onAct=${async () => stop()}>Stop …<//>`}
      ${
        (state === 'stopped' || state === 'failed') &&
        html`<${Action} kind="primary" onAct=${async () => {
          await startJob('train', request)
          await reload()
        }}>Continue<//>`
      }
      ${state === 'done' && html`<${Action} kind="primary" onAct=${async () => onPublish(name)}>Publish …<//>`}
    </p>
  <//>`
}

/** Resolves when a job has ended: a stopped training still writes its checkpoint. */
async function ended(id) {
  while ((await jobs()).some((job) => job.id === id && job.state === 'running'))
    await new Promise((resolve) => setTimeout(resolve, 300))
}

function progressWords(progress) {
  switch (progress?.stage) {
    case undefined:
      return 'starting'
    case 'step':
    case 'forecast':
      return 'training'
    case 'waiting':
      return `waiting for the training ${progress.behind}`
    case 'phase':
      return PHASES[progress.phase] ?? progress.phase
    case 'reading':
    case 'tokenizing':
      return `${progress.stage} the text, ${count(progress.documents, 'document')} so far`
    default:
      return 'preparing'
  }
}

function preparedWords({ stats: { train, heldOut, reading } }) {
  const skipped = reading.skipped.reduce((sum, { count: n }) => sum + n, 0)
  return `${count(train.documents, 'document')} with ${train.tokens} tokens to train on, ${count(heldOut.documents, 'document')} for scoring${skipped === 0 ? '' : `, ${count(skipped, 'file')} not read`}`
}

/** Every training in the home folder, also those that were not started from a page. */
function Known({ trainings, reload, ask, onPublish }) {
  const { say } = usePage()
  return html`<${Panel} title="Trainings on this machine">
    <${Table} caption="Trainings on this machine" rows=${trainings} keyOf=${({ name }) => name} empty="None yet."
      columns=${[
        { name: 'Name', of: ({ name }) => html`<strong>${name}</strong>` },
        {
          name: 'State',
          of: ({ state, step, isPublished }) =>
            html`<${Badge} kind=${STATES[state]}>${state}${step !== undefined && state === 'interrupted' ? ` at step ${step}` : ''}<//>${isPublished ? html`${' '}<${Badge} kind="good">published<//>` : ''}`,
        },
        {
          name: 'Own text',
          of: ({ own }) => (own === undefined ? '' : `${own.before.toFixed(3)} → ${own.after.toFixed(3)}`),
        },
        {
          name: 'Public text',
          of: ({ public: text }) =>
            text === undefined ? '' : `${text.before.toFixed(3)} → ${text.after.toFixed(3)}`,
        },
        {
          name: 'Privacy',
          of: ({ epsilon, isAudited }) =>
            `${epsilon === undefined ? 'no guarantee' : `ε ${epsilon}`}${isAudited ? ', audited' : ''}`,
        },
        {
          name: 'Actions',
          of: ({ name, state }) => html`<span class="buttons">
            ${
              state === 'interrupted' &&
              html`<${Action} kind="small" onAct=${async () => {
                await startJob('train', { name, data: [] })
                await reload()
              }}>Continue<//>`
            }
            ${state === 'finished' && html`<${Action} kind="small" onAct=${async () => onPublish(name)}>Publish …<//>`}
            ${(state === 'interrupted' || state === 'finished') && html`<${Action} kind="small" onAct=${async () => forget(name, ask, say, reload)}>Delete …<//>`}
          </span>`,
        },
      ]} />
    <p class="quiet">Scores are bits per byte on held-out text, before and after; less is better.</p>
  <//>`
}
