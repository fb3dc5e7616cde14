/**
 * The demo: three institutions as three processes on this machine, connected by TCP on loopback, go through every
 * step. It uses the commands that people use, through the same control sockets.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { APPROVE, INVITE } from '../commands/admission.ts'
import { EXPERTS } from '../commands/experts.ts'
import { MEMBERS } from '../commands/members.ts'
import { ENDORSE, PROPOSALS } from '../commands/proposals.ts'
import { PUBLISH } from '../commands/publish.ts'
import { bar, bits } from '../commands/terminal.ts'
import { TRAIN } from '../commands/train.ts'
import { type Digest, shortDigest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { interrupted } from '../lib/pause.ts'
import { createConsortium, initHome } from '../node/found.ts'
import { loadApiKey } from '../serving/api-key.ts'
import { callControl } from '../serving/control-client.ts'
import { homePaths } from '../store/home.ts'
import { unixNow } from './context.ts'
import { DASHBOARD_LINK } from './dashboard.ts'
import { plantTampered } from './demo-hostile.ts'
import { call, ended, exitOf, flexmesh, type Institution, startProcess, until } from './demo-process.ts'
import { measure, reportLines } from './demo-report.ts'
import { withdrawWithReceipts } from './demo-withdrawal.ts'
import type { Output } from './output.ts'

const INSTITUTIONS = [
  { name: 'St. Anna Hospital', domain: 'biomedicine', folder: 'hospital', expert: 'biomedicine' },
  { name: 'Archives du Travail', domain: 'French law', folder: 'archive', expert: 'french-law' },
  { name: 'Institute of Logic', domain: 'theorems', folder: 'university', expert: 'theorems' },
] as const
const DEFAULT_STEPS = 100
const NAME_WIDTH = Math.max(...INSTITUTIONS.map(({ name }) => name.length)) + 1

export interface DemoInit {
  /** Whether the first institution keeps serving at the end. */
  readonly isServing: boolean
  /** Training steps of each institution; default 100. */
  readonly steps?: number
  /** Port of the first institution's API; 0 for any free port. */
  readonly port: number
  readonly output: Output
  readonly signal: AbortSignal
}

export async function runDemo(init: DemoInit): Promise<void> {
  const { output, signal, steps = DEFAULT_STEPS } = init
  const started = performance.now()
  const root = await packageRoot()
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-demo-'))
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
    await foundAndJoin(institutions, root, init)
    await trainAll(institutions, steps, output, signal)
    await publishAll(institutions, output, signal)
    const measured = await measure(institutions, signal)
    // Before a log is tampered with: members take no receipt after a statement that they refuse.
    const withdrawal = await withdrawWithReceipts(institutions[1] as Institution, output, signal)
    const refused = await offerTampered(institutions, output, signal)
    const report = { ...measured, withdrawal, refused }
    const seconds = Math.round((performance.now() - started) / 100) / 10
    output.result({ ...report, seconds }, [...reportLines(report), `finished in ${seconds} s`])
    if (init.isServing) await keepServing(institutions[0] as Institution, output, signal)
  } finally {
    for (const { process: child } of institutions) child?.kill('SIGTERM')
    await Promise.all(institutions.map(({ process: child }) => ended(child)))
    await rm(work, { recursive: true, force: true })
  }
}

/** The folder of this package, whether it runs from source or from its build. */
async function packageRoot(): Promise<string> {
  for (let dir = dirname(fileURLToPath(import.meta.url)); dir !== dirname(dir); dir = dirname(dir)) {
    if (await pathExists(join(dir, 'models', 'small', 'config.json'))) return dir
  }
  throw new InputError('not-found', 'the sample model (models/small) is missing; install the whole package')
}

async function foundAndJoin(
  all: readonly Institution[],
  root: string,
  { port, output, signal }: DemoInit,
): Promise<void> {
  for (const institution of all) {
    const settings = {
      institution: institution.name,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      bootstrap: [],
      mdns: false,
    }
    institution.peerId = (await initHome(institution.home, settings, { inTheClear: true })).peerId
    output.say(`${column(institution)} ${institution.peerId}`)
  }
  const [founder, ...others] = all as [Institution, ...Institution[]]
  await createConsortium(
    { home: founder.home, now: unixNow },
    { modelDir: join(root, 'models', 'small'), name: 'Demo consortium' },
  )
  await startProcess(founder, port, signal)
  output.say(`${founder.name} founded "Demo consortium" and invites the others`)
  for (const [i, other] of others.entries()) {
    const { invite = '' } = await call(founder, INVITE, {}, signal)
    const joining = flexmesh(['join', invite, '--home', other.home], signal)
    const finished = exitOf(joining, `${other.name} could not join`)
    await until(
      `${other.name} to apply for membership`,
      signal,
      async () => (await call(founder, MEMBERS, {}, signal)).requests.length > 0,
      finished,
    )
    const { proposed } = await call(founder, APPROVE, {}, signal)
    output.say(
      `${other.name} checked the charter and the public model, and applied; ${founder.name} approves`,
    )
    for (const { name } of proposed) await endorseBy(others.slice(0, i), name, output, signal)
    await finished
    output.say(`${other.name} is a member`)
    await startProcess(other, 0, signal)
  }
}

/** Members endorse a proposal, one after the other, until it has its quorum. */
async function endorseBy(
  members: readonly Institution[],
  proposal: string,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  for (const member of members) {
    await until(`the proposal at ${member.name}`, signal, async () => {
      const { proposals } = await call(member, PROPOSALS, {}, signal)
      return proposals.some(({ name }) => name === proposal)
    })
    const { state, supporters, needed } = await call(member, ENDORSE, { id: proposal }, signal)
    output.say(`${column(member)} endorses: ${supporters.length} of ${needed} members agree`)
    if (state === 'applied') return
  }
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
  const stepsDone = new Map<string, number>()
  const showProgress = (): void => {
    const parts = all.map(({ domain }) => {
      const done = stepsDone.get(domain) ?? 0
      return `${domain} ${bar(done, steps)} ${done}/${steps}`
    })
    output.progress(parts.join('  '))
  }
  await Promise.all(
    all.map(async (institution) => {
      const request = { name: institution.expert, data: [institution.data], steps, canaries: 0 }
      const result = await call(institution, TRAIN, request, signal, (event) => {
        if (event.stage !== 'step') return
        stepsDone.set(institution.domain, event.step)
        showProgress()
      })
      const score = 'own' in result ? result.own : undefined
      output.say(
        `${column(institution)} trained: ${bits(score?.before)} -> ${bits(score?.after)} bits per byte on its held-out text`,
      )
    }),
  )
}

async function publishAll(all: readonly Institution[], output: Output, signal: AbortSignal): Promise<void> {
  await Promise.all(
    all.map(async (institution) => {
      const request = {
        name: institution.expert,
        license: 'CC-BY-4.0',
        domain: institution.domain,
        noAudit: true,
      }
      const { id } = await call(institution, PUBLISH, request, signal)
      output.say(`${column(institution)} published ${shortDigest(id as Digest)}, signed, in bf16`)
    }),
  )
  for (const institution of all) {
    await until(`the experts at ${institution.name}`, signal, async () => {
      const { composed, packages } = await call(institution, EXPERTS, {}, signal)
      for (const { verdict } of packages) {
        if (verdict?.outcome !== 'refused') continue
        throw new InputError(
          'not-acceptable',
          `${institution.name} refused ${verdict.expert ?? 'a package'}: ${verdict.code}, ${verdict.reason}`,
        )
      }
      return composed.length === all.length
    })
    output.say(`${column(institution)} verified, accepted and composed all ${all.length} experts`)
  }
}

/** The last institution stops, changes its signed manifest on disk and starts again; the others must refuse it. */
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
  let refused: { code: string }[] = []
  await until('a refusal', signal, async () => {
    const { packages } = await call(judge, EXPERTS, {}, signal)
    refused = packages.flatMap(({ state, verdict }) =>
      state === 'refused' && verdict?.outcome === 'refused' ? [{ code: verdict.code }] : [],
    )
    return refused.length > 0
  })
  output.say(
    `${hostile.name} offers a package that was changed after signing; ${judge.name} refuses it: ${refused[0]?.code}`,
  )
  return refused
}

async function keepServing(first: Institution, output: Output, signal: AbortSignal): Promise<void> {
  const { apiKey, control } = homePaths(first.home)
  const key = await loadApiKey(apiKey)
  const { link } = (await callControl(control, DASHBOARD_LINK, { role: 'operator' }, { signal })) as {
    link: string
  }
  output.say(`${first.name} serves the composition at ${first.api}; try:`)
  output.say(
    `  curl ${first.api}/chat/completions -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' \\`,
  )
  output.say(`    -d '{"model":"flexmesh","messages":[{"role":"user","content":"What is a protein?"}]}'`)
  output.say(`its dashboard, for one browser: ${link}`)
  output.say('Ctrl-C ends the demo.')
  await interrupted(signal)
}

function column({ name }: Institution): string {
  return name.padEnd(NAME_WIDTH)
}
