/**
 * Runs one command: in the running node of the home when there is one, else on the home itself. Knows
 * how results are worded, not how they come about.
 */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { EvaluationReport } from '../commands/evaluate.ts'
import { nodeCommands } from '../commands/table.ts'
import { shortDigest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { createConsortium, DEFAULT_LISTEN, initHome } from '../node/found.ts'
import { joinConsortium } from '../node/join.ts'
import { FlexMeshNode } from '../node/node.ts'
import { importExpert } from '../owner/import-expert.ts'
import { callControl, isRunning } from '../serving/control.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { selectEngine } from '../tensor/select-engine.ts'
import type { Invocation } from './arguments.ts'
import {
  type CommandContext,
  engineChoice,
  option,
  passphraseOf,
  required,
  routerChoice,
  unixNow,
  weightFormat,
  whole,
} from './context.ts'
import { runDemo } from './demo.ts'
import { describe, showProgress } from './describe.ts'
import { runDoctor } from './doctor.ts'
import { domainsOf } from './domains.ts'
import { evaluationLines } from './evaluation.ts'
import { bar, megabytes, type Output } from './output.ts'
import { pictureFile, routingPicture } from './routing-picture.ts'
import { runStart } from './start.ts'

function list(invocation: Invocation, name: string): string[] | undefined {
  const value = invocation.values[name]
  return Array.isArray(value) ? value : undefined
}

/** `--data A B` and `--data A --data B` are the same. */
function dataPaths(invocation: Invocation): string[] {
  return [...(list(invocation, 'data') ?? []), ...invocation.positionals]
}

function path(invocation: Invocation, name: string): string | undefined {
  const value = option(invocation, name)
  return value === undefined ? undefined : resolve(value)
}

export async function runCommand(invocation: Invocation, output: Output, signal: AbortSignal): Promise<void> {
  const home = resolve(
    option(invocation, 'home') ?? process.env['FLEXMESH_HOME'] ?? join(homedir(), '.flexmesh'),
  )
  const context: CommandContext = { home, invocation, output, signal }
  switch (invocation.command) {
    case 'demo':
      return runDemo(context)
    case 'doctor':
      return runDoctor(context)
    case 'init':
      return init(context)
    case 'consortium create':
      return create(context)
    case 'join':
      return join_(context)
    case 'import-expert':
      return importTrained(context)
    case 'start':
      return runStart(context)
    default:
      return inNode(context)
  }
}

async function init({ home, invocation, output }: CommandContext): Promise<void> {
  const passphrase = await passphraseOf(invocation)
  const insecure = invocation.values['insecure'] === true
  if (passphrase === undefined && !insecure) {
    throw new InputError(
      'usage',
      'give --passphrase-file to encrypt the key, or --insecure to keep it in the clear',
    )
  }
  const institution = required(invocation, 'institution')
  const listen = list(invocation, 'listen') ?? DEFAULT_LISTEN
  const settings = { institution, listen, bootstrap: [], mdns: invocation.values['no-mdns'] !== true }
  const identity = await initHome(
    home,
    settings,
    passphrase === undefined ? { inTheClear: true } : { passphrase },
  )
  output.result({ peerId: identity.peerId, home }, [`${institution} is ${identity.peerId}`, `home: ${home}`])
}

async function setupInit({
  home,
  invocation,
}: CommandContext): Promise<Parameters<typeof createConsortium>[0]> {
  const passphrase = await passphraseOf(invocation)
  return { home, now: unixNow, ...(passphrase === undefined ? {} : { passphrase }) }
}

async function create(context: CommandContext): Promise<void> {
  const { invocation, output, signal } = context
  const replay = option(invocation, 'replay')
  const charter = await createConsortium(await setupInit(context), {
    modelDir: resolve(required(invocation, 'public-model')),
    name: required(invocation, 'name'),
    ...(replay === undefined ? {} : { replay: resolve(replay) }),
    signal,
    onProgress: (done, total) =>
      output.progress(`checking weights ${bar(done, total)} ${megabytes(done, total)}`),
  })
  output.result({ name: charter.name, publicModel: charter.publicModel.digest }, [
    `consortium "${charter.name}" founded around public model ${shortDigest(charter.publicModel.digest)}`,
    'next: "flexmesh start", then "flexmesh invite" for each institution',
  ])
}

async function importTrained({ home, invocation, output, signal }: CommandContext): Promise<void> {
  const [dir] = invocation.positionals
  if (dir === undefined)
    throw new InputError('usage', 'import-expert: name the folder of the two-expert checkpoint')
  await loadSettings(homePaths(home))
  const result = await importExpert(homePaths(home), resolve(dir), required(invocation, 'name'), {
    signal,
    onProgress: (done, total) =>
      output.progress(`comparing with the public model ${bar(done, total)} ${megabytes(done, total)}`),
  })
  output.result(result, [
    `${result.name}: everything but expert 1 is the public model’s, bit for bit`,
    `next: flexmesh publish ${result.name}`,
  ])
}

async function join_(context: CommandContext): Promise<void> {
  const { invocation, output, signal } = context
  const [invite] = invocation.positionals
  if (invite === undefined)
    throw new InputError('usage', 'join: paste the line that "flexmesh invite" printed')
  const charter = await joinConsortium(await setupInit(context), invite, signal, (event) => {
    if (event.stage === 'charter') output.say(`found consortium "${event.name}"`)
    else if (event.stage === 'public-model')
      output.progress(`public model ${bar(event.done, event.total)} ${event.done}/${event.total}`)
    else if (event.stage === 'waiting') output.say('asked for membership; waiting until a founder approves')
  })
  output.result({ consortium: charter.name }, [`member of "${charter.name}"`])
}

/** A decimal number in thousandths; what is none is refused where it is used. */
function milli(invocation: Invocation, name: string): number | undefined {
  const value = option(invocation, name)
  return value === undefined ? undefined : Math.round(Number(value) * 1000)
}

/** Commands of `nodeCommands`: their arguments from the command line. */
async function argumentsOf(invocation: Invocation): Promise<Record<string, unknown>> {
  const [first] = invocation.positionals
  const given = (entries: Record<string, unknown>): Record<string, unknown> =>
    Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined))
  switch (invocation.command) {
    case 'approve':
      return given({ who: first })
    case 'train':
      return given({
        name: required(invocation, 'name'),
        data: dataPaths(invocation).map((path) => resolve(path)),
        steps: whole(invocation, 'steps', 10_000_000),
        accumulate: whole(invocation, 'accumulate', 1024),
        rank: whole(invocation, 'rank', 65_536),
        exportPair: path(invocation, 'export-pair'),
        shardMegabytes: whole(invocation, 'shard-size', 1_000_000),
      })
    case 'revoke':
      if (first === undefined) throw new InputError('usage', 'revoke: name the institution')
      return given({ who: first, reason: option(invocation, 'reason') })
    case 'accept':
    case 'refuse':
      if (first === undefined)
        throw new InputError(
          'usage',
          `${invocation.command}: name the package as "flexmesh experts" shows it`,
        )
      return { package: first }
    case 'compose':
      return given({
        include: list(invocation, 'include'),
        exclude: list(invocation, 'exclude'),
        topK: whole(invocation, 'top-k', 65),
        router: routerChoice(invocation),
        export: path(invocation, 'export'),
        exportOnnx: path(invocation, 'export-onnx'),
        shardMegabytes: whole(invocation, 'shard-size', 1_000_000),
        dropBias: invocation.values['drop-bias'] === true ? true : undefined,
      })
    case 'publish':
    case 'withdraw':
      if (first === undefined)
        throw new InputError(
          'usage',
          `${invocation.command}: name the training, as in "flexmesh ${invocation.command} NAME"`,
        )
      return given({
        name: first,
        license: option(invocation, 'license'),
        domain: option(invocation, 'domain'),
        dtype: option(invocation, 'dtype'),
        rank: whole(invocation, 'rank', 65_536),
        statistics: option(invocation, 'router-statistics'),
        epsilonMilli: milli(invocation, 'noise'),
      })
    case 'evaluate': {
      const name = option(invocation, 'name')
      const paths = dataPaths(invocation)
      const kilobytes = whole(invocation, 'kilobytes', Math.floor(limit('evaluatedBytesAsked') / 1000), 2)
      return given({
        router: routerChoice(invocation),
        data: paths.length === 0 ? undefined : await domainsOf(paths, name),
        name,
        maxBytes: kilobytes === undefined ? undefined : kilobytes * 1000,
        publicText: true,
        optOut: invocation.values['opt-out'] === true || invocation.values['json'] === true,
      })
    }
    case 'generate': {
      if (first === undefined)
        throw new InputError('usage', 'generate: give a prompt, as in flexmesh generate "Once upon"')
      return given({
        prompt: first,
        maxTokens: whole(invocation, 'max-tokens', 4096),
        include: list(invocation, 'include'),
        exclude: list(invocation, 'exclude'),
        temperatureMilli: milli(invocation, 'temperature'),
      })
    }
    default:
      return {}
  }
}

async function inNode(context: CommandContext): Promise<void> {
  const { home, invocation, output, signal } = context
  const picture = await pictureFile(path(invocation, 'picture'))
  const args = await argumentsOf(invocation)
  const weights = weightFormat(invocation)
  const onProgress = (progress: unknown): void => showProgress(output, progress)
  const control = homePaths(home).control
  let result: unknown
  if (await isRunning(control)) {
    result = await callControl(control, invocation.command, args, { signal, onProgress })
  } else {
    await loadSettings(homePaths(home))
    const passphrase = await passphraseOf(invocation)
    const engine = await selectEngine(engineChoice(invocation))
    const node = await FlexMeshNode.open({
      home,
      engine,
      weights,
      now: unixNow,
      ...(passphrase === undefined ? {} : { passphrase }),
    })
    try {
      const command = nodeCommands(node)[invocation.command]
      if (command === undefined) throw new InputError('usage', `"${invocation.command}" is not known`)
      const run = command(args, signal)
      for (;;) {
        const { done, value } = await run.next()
        if (done === true) {
          result = value
          break
        }
        onProgress(value)
      }
    } finally {
      await node.close()
    }
  }
  if (invocation.command !== 'evaluate') {
    output.result(result, describe(invocation.command, result))
    return
  }
  const report = result as EvaluationReport
  output.result(report, evaluationLines(report, output.style))
  if (picture !== undefined) {
    await writeFileAtomic(picture, routingPicture(report), { mode: 0o644 })
    output.say(`\nrouting picture written to ${picture}`)
  }
}
