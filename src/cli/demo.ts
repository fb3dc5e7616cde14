/**
 * `flexmesh demo`: three institutions, three node processes, real TCP on loopback, the whole path. It
 * uses the same commands that people use, through the same control sockets.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { homePaths } from '../home.ts'
import { ExchangeError, InputError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { callControl } from '../serving/control.ts'
import { loadApiKey } from '../serving/server.ts'
import { createConsortium, initHome } from '../setup.ts'
import { type CommandContext, unixNow, whole } from './context.ts'
import { bar, type Output, table } from './output.ts'

const INSTITUTIONS = [
  { name: 'St. Anna Hospital', domain: 'biomedicine', folder: 'hospital', expert: 'biomedicine' },
  { name: 'Archives du Travail', domain: 'French law', folder: 'archive', expert: 'french-law' },
  { name: 'Institute of Logic', domain: 'theorems', folder: 'university', expert: 'theorems' },
] as const
const PUBLIC_DOMAIN = 'public text'
const PROMPT = "Article L1234-5 (Section 1 : Dispositions générales)\n\nL'employeur"
const DEFAULT_STEPS = 100
const DEFAULT_PORT = 8080
const POLL_MS = 250

interface Institution {
  readonly name: string
  readonly domain: string
  readonly expert: string
  readonly data: string
  readonly home: string
  peerId: string
  api: string
  process?: ChildProcess
}

interface Scores {
  readonly public: number
  readonly composed: number
  readonly alone: Record<string, number>
  readonly without: Record<string, number>
}

/** The package's own folder, whether run from source or from its build. */
async function packageRoot(): Promise<string> {
  for (let dir = dirname(fileURLToPath(import.meta.url)); dir !== dirname(dir); dir = dirname(dir)) {
    if (await pathExists(join(dir, 'models', 'small', 'config.json'))) return dir
  }
  throw new InputError('not-found', 'the sample model (models/small) is missing; install the whole package')
}

export async function runDemo({ invocation, output, signal }: CommandContext): Promise<void> {
  const started = performance.now()
  const root = await packageRoot()
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-demo-'))
  const steps = whole(invocation, 'steps', 100_000) ?? DEFAULT_STEPS
  const port = whole(invocation, 'port', 65_535) ?? (invocation.values['once'] === true ? 0 : DEFAULT_PORT)
  const institutions: Institution[] = INSTITUTIONS.map(({ name, domain, folder, expert }) => ({
    name,
    domain,
    expert,
    data: join(root, 'examples', folder, 'text'),
    home: join(work, folder),
    peerId: '',
    api: '',
  }))
  try {
    await foundAndJoin(institutions, root, port, output, signal)
    await trainAll(institutions, steps, output, signal)
    await publishAll(institutions, output, signal)
    const refused = await offerTampered(institutions, output, signal)
    const report = await measure(institutions, refused, signal)
    const seconds = Math.round((performance.now() - started) / 100) / 10
    output.result({ ...report, seconds }, [...show(report), `finished in ${seconds} s`])
    if (invocation.values['once'] !== true) await keepServing(institutions[0] as Institution, output, signal)
  } finally {
    for (const { process: child } of institutions) child?.kill('SIGTERM')
    await Promise.all(institutions.map(({ process: child }) => ended(child)))
    await rm(work, { recursive: true, force: true })
  }
}

async function foundAndJoin(
  all: Institution[],
  root: string,
  port: number,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  for (const institution of all) {
    const settings = {
      institution: institution.name,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      mdns: false,
    }
    institution.peerId = (await initHome(institution.home, settings, { inTheClear: true })).peerId
    output.say(`${institution.name.padEnd(20)} ${institution.peerId}`)
  }
  const [founder, ...others] = all as [Institution, ...Institution[]]
  await createConsortium(
    { home: founder.home, now: unixNow },
    join(root, 'models', 'small'),
    'Demo consortium',
  )
  await startProcess(founder, port, signal)
  output.say(`${founder.name} founded "Demo consortium" and invites the others`)
  for (const other of others) {
    const { invite } = await call<{ invite: string }>(founder, 'invite', {}, signal)
    const joining = flexmesh(['join', invite, '--home', other.home], signal)
    const finished = exitOf(joining, `${other.name} could not join`)
    await until(
      signal,
      async () => (await call<{ requests: unknown[] }>(founder, 'members', {}, signal)).requests.length > 0,
      finished,
    )
    await call(founder, 'approve', {}, signal)
    await finished
    output.say(`${other.name} checked charter and public model, asked, and was approved`)
  }
  await Promise.all(others.map((other) => startProcess(other, 0, signal)))
}

async function trainAll(
  all: readonly Institution[],
  steps: number,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  output.say(
    `each trains its own expert on its own text, ${steps} steps, all at once; no text leaves its process`,
  )
  const done = new Map<string, number>()
  const show = (): void => {
    const parts = all.map(
      ({ domain }) =>
        `${domain} ${bar(done.get(domain) ?? 0, steps).slice(0, 24)} ${done.get(domain) ?? 0}/${steps}`,
    )
    output.progress(parts.join('  '))
  }
  await Promise.all(
    all.map(async (institution) => {
      const args = { name: institution.expert, data: [institution.data], steps }
      const result = await call<{ own: { before: number; after: number } }>(
        institution,
        'train',
        args,
        signal,
        (progress) => {
          const { stage, step } = progress as { stage?: string; step?: number }
          if (stage !== 'step' || step === undefined) return
          done.set(institution.domain, step)
          show()
        },
      )
      output.say(
        `${institution.name.padEnd(20)} trained: ${result.own.before.toFixed(3)} -> ${result.own.after.toFixed(3)} bits per byte on its held-out text`,
      )
    }),
  )
}

async function publishAll(all: readonly Institution[], output: Output, signal: AbortSignal): Promise<void> {
  for (const institution of all) {
    const { id } = await call<{ id: string }>(
      institution,
      'publish',
      { name: institution.expert, license: 'CC-BY-4.0', domain: institution.domain },
      signal,
    )
    output.say(`${institution.name.padEnd(20)} published ${id.slice(7, 19)}, signed, bf16`)
  }
  for (const institution of all) {
    await until(
      signal,
      async () =>
        (await call<{ composed: unknown[] }>(institution, 'experts', {}, signal)).composed.length ===
        all.length,
    )
    output.say(
      `${institution.name.padEnd(20)} verified and accepted all ${all.length} experts and composed them`,
    )
  }
}

/** The last institution offers a manifest that was changed after it was signed. */
async function offerTampered(
  all: readonly Institution[],
  output: Output,
  signal: AbortSignal,
): Promise<{ code: string }[]> {
  const hostile = all.at(-1) as Institution
  const judge = all[0] as Institution
  await call(hostile, 'offer-tampered', {}, signal)
  type Verdicts = { verdicts: { outcome: string; code?: string; reason?: string }[] }
  let refused: { outcome: string; code?: string; reason?: string }[] = []
  await until(signal, async () => {
    refused = (await call<Verdicts>(judge, 'experts', {}, signal)).verdicts.filter(
      ({ outcome }) => outcome === 'refused',
    )
    return refused.length > 0
  })
  output.say(
    `${hostile.name} offers a package changed after signing; ${judge.name} refuses it: ${refused[0]?.code}`,
  )
  return refused.map(({ code }) => ({ code: code ?? '' }))
}

interface Report {
  readonly institutions: { name: string; peerId: string; expert: string; domain: string }[]
  readonly bitsPerByte: Record<string, Record<string, number>>
  readonly macro: { public: number; bestExpert: number; composed: number }
  readonly optOut: { institution: string; before: Record<string, number>; after: Record<string, number> }
  readonly refused: { code: string }[]
  readonly answer: { text: string; experts: { institution: string; share: number }[] }
}

async function measure(
  all: readonly Institution[],
  refused: { code: string }[],
  signal: AbortSignal,
): Promise<Report> {
  const [first] = all as [Institution]
  const scores: [string, Scores][] = []
  for (const institution of all) {
    scores.push([
      institution.domain,
      await call<Scores>(institution, 'evaluate', { on: 'own', name: institution.expert }, signal),
    ])
  }
  scores.push([PUBLIC_DOMAIN, await call<Scores>(first, 'evaluate', { on: 'public' }, signal)])
  const answer = await call<Report['answer']>(
    first,
    'generate',
    { prompt: PROMPT, maxTokens: 60, temperatureMilli: 700, seed: 7 },
    signal,
  )
  const mean = (pick: (score: Scores) => number): number =>
    scores.reduce((sum, [, score]) => sum + pick(score), 0) / scores.length
  const leaver = all[1] as Institution
  return {
    institutions: all.map(({ name, peerId, expert, domain }) => ({ name, peerId, expert, domain })),
    bitsPerByte: Object.fromEntries(
      scores.map(([domain, s]) => [domain, { public: s.public, ...s.alone, composed: s.composed }]),
    ),
    macro: {
      public: mean((s) => s.public),
      bestExpert: Math.min(...all.map(({ name }) => mean((s) => s.alone[name] as number))),
      composed: mean((s) => s.composed),
    },
    optOut: {
      institution: leaver.name,
      before: Object.fromEntries(scores.map(([domain, s]) => [domain, s.composed])),
      after: Object.fromEntries(scores.map(([domain, s]) => [domain, s.without[leaver.name] as number])),
    },
    refused,
    answer: { text: answer.text, experts: answer.experts },
  }
}

function show(report: Report): string[] {
  const domains = Object.keys(report.bitsPerByte)
  const rows = ['public', ...report.institutions.map(({ name }) => name), 'composed']
  const label = (row: string): string =>
    row === 'public' ? 'public model' : row === 'composed' ? 'composition' : `public + ${row}`
  const mean = (row: string): number =>
    domains.reduce((sum, d) => sum + (report.bitsPerByte[d]?.[row] as number), 0) / domains.length
  const { optOut, answer } = report
  const fixed = (value: number | undefined): string => (value ?? Number.NaN).toFixed(3)
  return [
    '',
    'bits per byte on held-out text (lower is better)',
    ...table([
      ['model', ...domains, 'macro'],
      ...rows.map((row) => [
        label(row),
        ...domains.map((d) => fixed(report.bitsPerByte[d]?.[row])),
        fixed(mean(row)),
      ]),
    ]),
    '',
    `without ${optOut.institution}:`,
    ...table([
      ['', ...domains],
      ['before', ...domains.map((d) => fixed(optOut.before[d]))],
      ['after', ...domains.map((d) => fixed(optOut.after[d]))],
    ]),
    '',
    'a sample answer',
    `  ${PROMPT.replaceAll('\n', '\n  ')}${answer.text.replaceAll('\n', '\n  ')}`,
    `  carried by: ${answer.experts.map(({ institution, share }) => `${institution} ${(100 * share).toFixed(0)} %`).join(', ')}`,
    '',
  ]
}

async function keepServing(first: Institution, output: Output, signal: AbortSignal): Promise<void> {
  const key = await loadApiKey(homePaths(first.home).apiKey)
  output.say(`${first.name} serves the composition at ${first.api}; try:`)
  output.say(
    `  curl ${first.api}/chat/completions -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' \\`,
  )
  output.say(`    -d '{"model":"flexmesh","messages":[{"role":"user","content":"What is a protein?"}]}'`)
  output.say('Ctrl-C ends the demo.')
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** This program in a process of its own; the demo's nodes get one tensor thread each. */
function flexmesh(args: readonly string[], signal: AbortSignal): ChildProcess {
  const entry = process.argv[1] as string
  return spawn(process.execPath, [...process.execArgv, entry, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FLEXMESH_DEMO: '1' },
    signal,
  })
}

async function startProcess(institution: Institution, port: number, signal: AbortSignal): Promise<void> {
  const child = flexmesh(
    ['start', '--home', institution.home, '--port', String(port), '--threads', '1', '--json'],
    signal,
  )
  institution.process = child
  const failed = exitOf(child, `${institution.name} did not start`)
  const ready = new Promise<void>((resolve) => {
    let text = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      if (!text.includes('\n')) return
      const line = JSON.parse(text.split('\n')[0] as string) as { api: string }
      institution.api = line.api
      resolve()
    })
  })
  await Promise.race([ready, failed])
  failed.catch(() => undefined)
}

/** Resolves when the process ends well. @throws ExchangeError with what it printed. */
function exitOf(child: ChildProcess, title: string): Promise<void> {
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2_000)
  })
  child.stdout?.resume()
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code) =>
      code === 0
        ? resolve()
        : reject(new ExchangeError('protocol', `${title}: ${errors.trim() || `exit code ${code}`}`)),
    )
  })
}

function ended(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.on('exit', () => resolve()))
}

async function call<T>(
  institution: Institution,
  command: string,
  args: unknown,
  signal: AbortSignal,
  onProgress?: (progress: unknown) => void,
): Promise<T> {
  return (await callControl(homePaths(institution.home).control, command, args, {
    signal,
    ...(onProgress === undefined ? {} : { onProgress }),
  })) as T
}

/** Ask again until the answer is yes, or `failure` rejects. */
async function until(
  signal: AbortSignal,
  answer: () => Promise<boolean>,
  failure?: Promise<unknown>,
): Promise<void> {
  let broken: unknown
  failure?.catch((error: unknown) => {
    broken = error
  })
  while (!(await answer())) {
    signal.throwIfAborted()
    if (broken !== undefined) throw broken
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
