/**
 * `flexmesh demo`: three institutions, three node processes, real TCP on loopback, the whole path. It
 * uses the same commands that people use, through the same control sockets.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InputError, PolicyError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { createConsortium, initHome } from '../node/found.ts'
import { loadApiKey } from '../serving/api-key.ts'
import { homePaths } from '../store/home.ts'
import { type CommandContext, unixNow, whole } from './context.ts'
import { plantTampered } from './demo-hostile.ts'
import { call, ended, exitOf, flexmesh, type Institution, startProcess, until } from './demo-process.ts'
import { measure, show } from './demo-report.ts'
import { bar, type Output } from './output.ts'

const INSTITUTIONS = [
  { name: 'St. Anna Hospital', domain: 'biomedicine', folder: 'hospital', expert: 'biomedicine' },
  { name: 'Archives du Travail', domain: 'French law', folder: 'archive', expert: 'french-law' },
  { name: 'Institute of Logic', domain: 'theorems', folder: 'university', expert: 'theorems' },
] as const
const DEFAULT_STEPS = 100

/** Answer of the command `experts`, as far as the demo reads it. */
interface Experts {
  readonly composed: readonly unknown[]
  readonly verdicts: readonly {
    readonly outcome: string
    readonly expert?: string
    readonly code?: string
    readonly reason?: string
  }[]
}
const DEFAULT_PORT = 8080

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
    { modelDir: join(root, 'models', 'small'), name: 'Demo consortium' },
  )
  await startProcess(founder, port, signal)
  output.say(`${founder.name} founded "Demo consortium" and invites the others`)
  for (const other of others) {
    const { invite } = await call<{ invite: string }>(founder, 'invite', {}, signal)
    const joining = flexmesh(['join', invite, '--home', other.home], signal)
    const finished = exitOf(joining, `${other.name} could not join`)
    await until(
      `${other.name} to ask for membership`,
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
  await Promise.all(
    all.map(async (institution) => {
      const { id } = await call<{ id: string }>(
        institution,
        'publish',
        { name: institution.expert, license: 'CC-BY-4.0', domain: institution.domain },
        signal,
      )
      output.say(`${institution.name.padEnd(20)} published ${id.slice(7, 19)}, signed, bf16`)
    }),
  )
  for (const institution of all) {
    await until(`the experts at ${institution.name}`, signal, async () => {
      const { composed, verdicts } = await call<Experts>(institution, 'experts', {}, signal)
      const refused = verdicts.find(({ outcome }) => outcome === 'refused')
      if (refused !== undefined) {
        throw new PolicyError(
          'refused-by-operator',
          `${institution.name} refused ${refused.expert ?? 'a package'}: ${refused.code}, ${refused.reason}`,
        )
      }
      return composed.length === all.length
    })
    output.say(
      `${institution.name.padEnd(20)} verified and accepted all ${all.length} experts and composed them`,
    )
  }
}

/** The last institution stops, changes its signed manifest on disk, and starts again: others must refuse it. */
async function offerTampered(
  all: readonly Institution[],
  output: Output,
  signal: AbortSignal,
): Promise<{ code: string }[]> {
  const hostile = all.at(-1) as Institution
  const judge = all[0] as Institution
  hostile.process?.kill('SIGTERM')
  await ended(hostile.process)
  await plantTampered(hostile.home, hostile.peerId)
  await startProcess(hostile, 0, signal)
  let refused: Experts['verdicts'] = []
  await until('a refusal', signal, async () => {
    refused = (await call<Experts>(judge, 'experts', {}, signal)).verdicts.filter(
      ({ outcome }) => outcome === 'refused',
    )
    return refused.length > 0
  })
  output.say(
    `${hostile.name} offers a package changed after signing; ${judge.name} refuses it: ${refused[0]?.code}`,
  )
  return refused.map(({ code }) => ({ code: code ?? '' }))
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
