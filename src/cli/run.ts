/**
 * Runs one command: in the running node of the home when there is one, else on the home itself. Knows
 * how results are worded, not how they come about.
 */
import { homedir } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import { nodeCommands } from '../commands.ts'
import { homePaths, loadSettings } from '../home.ts'
import { type Digest, shortDigest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { FlexMeshNode } from '../node.ts'
import { callControl, isRunning } from '../serving/control.ts'
import { createConsortium, DEFAULT_LISTEN, initHome, joinConsortium } from '../setup.ts'
import { selectEngine } from '../tensor/select-engine.ts'
import type { Invocation } from './arguments.ts'
import { type CommandContext, option, passphraseOf, required, unixNow, whole } from './context.ts'
import { runDemo } from './demo.ts'
import { runDoctor } from './doctor.ts'
import { bar, duration, type Output, table } from './output.ts'
import { runStart } from './start.ts'

function list(invocation: Invocation, name: string): string[] | undefined {
  const value = invocation.values[name]
  return Array.isArray(value) ? value : undefined
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
  const { invocation, output } = context
  const charter = await createConsortium(
    await setupInit(context),
    resolve(required(invocation, 'public-model')),
    required(invocation, 'name'),
  )
  output.result({ name: charter.name, publicModel: charter.publicModel.digest }, [
    `consortium "${charter.name}" founded around public model ${shortDigest(charter.publicModel.digest)}`,
    'next: "flexmesh start", then "flexmesh invite" for each institution',
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

/** Commands of `nodeCommands`: their arguments from the command line. */
function argumentsOf(invocation: Invocation): Record<string, unknown> {
  const [first] = invocation.positionals
  const given = (entries: Record<string, unknown>): Record<string, unknown> =>
    Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined))
  switch (invocation.command) {
    case 'approve':
      return given({ who: first })
    case 'train':
      return given({
        name: required(invocation, 'name'),
        data: (list(invocation, 'data') ?? []).map((path) => (isAbsolute(path) ? path : resolve(path))),
        steps: whole(invocation, 'steps', 10_000_000),
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
      })
    case 'evaluate':
      return given({
        on: option(invocation, 'name') === undefined ? 'public' : 'own',
        name: option(invocation, 'name'),
      })
    case 'generate': {
      if (first === undefined)
        throw new InputError('usage', 'generate: give a prompt, as in flexmesh generate "Once upon"')
      const temperature = option(invocation, 'temperature')
      return given({
        prompt: first,
        maxTokens: whole(invocation, 'max-tokens', 4096),
        include: list(invocation, 'include'),
        exclude: list(invocation, 'exclude'),
        temperatureMilli: temperature === undefined ? undefined : Math.round(Number(temperature) * 1000),
      })
    }
    default:
      return {}
  }
}

async function inNode(context: CommandContext): Promise<void> {
  const { home, invocation, output, signal } = context
  const args = argumentsOf(invocation)
  const onProgress = (progress: unknown): void => showProgress(output, progress)
  const control = homePaths(home).control
  let result: unknown
  if (await isRunning(control)) {
    result = await callControl(control, invocation.command, args, { signal, onProgress })
  } else {
    await loadSettings(homePaths(home))
    const passphrase = await passphraseOf(invocation)
    const engine = await selectEngine(option(invocation, 'engine'), whole(invocation, 'threads', 256))
    const node = await FlexMeshNode.open({
      home,
      engine,
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
  output.result(result, describe(invocation.command, result))
}

export function showProgress(output: Output, progress: unknown): void {
  const event = progress as {
    stage?: string
    text?: string
    step?: number
    totalSteps?: number
    loss?: number
    tokensPerSecond?: number
    secondsLeft?: number
    stats?: { train: { documents: number; tokens: number; bytes: number }; heldOut: { documents: number } }
  }
  if (event.stage === 'prepared' && event.stats !== undefined) {
    const { train, heldOut } = event.stats
    output.say(
      `text: ${train.documents} documents, ${train.tokens} tokens, ${train.bytes} bytes to train on; ${heldOut.documents} documents held out`,
    )
  } else if (event.stage === 'step') {
    const { step = 0, totalSteps = 0, loss = 0, tokensPerSecond = 0, secondsLeft = 0 } = event
    output.progress(
      `training ${bar(step, totalSteps)} ${step}/${totalSteps}  loss ${loss.toFixed(3)}  ${tokensPerSecond.toFixed(0)} tokens/s  ${duration(secondsLeft)} left`,
    )
  }
}

const bits = (value: unknown): string => (typeof value === 'number' ? value.toFixed(3) : '')

function describe(command: string, result: unknown): string[] {
  const value = result as Record<string, unknown>
  switch (command) {
    case 'invite':
      return [String(value['invite'])]
    case 'members': {
      const members = value['members'] as {
        institution: string
        peerId: string
        role: string
        connected: boolean
        revoked: boolean
      }[]
      const waiting = value['requests'] as { institution: string; peerId: string }[]
      return [
        `${value['consortium']}, roster version ${value['rosterVersion']}`,
        ...table(
          members.map((m) => [
            m.institution,
            m.peerId,
            m.role,
            m.revoked ? 'revoked' : m.connected ? 'connected' : 'away',
          ]),
        ),
        ...waiting.map(({ institution, peerId }) => `waits for approval: ${institution} ${peerId}`),
      ]
    }
    case 'approve':
      return [`approved: ${(value['approved'] as string[]).join(', ')}`]
    case 'train': {
      const own = value['own'] as { before: number; after: number }
      const shared = value['public'] as { before: number; after: number }
      return [
        `trained ${value['name']}: bits per byte on own held-out text ${bits(own.before)} -> ${bits(own.after)}, on public text ${bits(shared.before)} -> ${bits(shared.after)}`,
        `next: flexmesh publish ${value['name']}`,
      ]
    }
    case 'publish':
      return [`published ${value['id']}`]
    case 'withdraw':
      return [`withdrawn: ${(value['withdrawn'] as Digest[]).join(', ')}`]
    case 'experts': {
      const composed = value['composed'] as { id: Digest; name: string; institution: string }[]
      const verdicts = value['verdicts'] as { id: Digest; outcome: string; code?: string; reason?: string }[]
      return [
        `composition ${shortDigest(value['composition'] as Digest)}: public model${composed.map((e) => ` + ${e.institution}/${e.name}`).join('')}`,
        ...verdicts.map(
          (v) => `${shortDigest(v.id)} ${v.outcome}${v.code === undefined ? '' : ` ${v.code}: ${v.reason}`}`,
        ),
      ]
    }
    case 'evaluate': {
      const alone = value['alone'] as Record<string, number>
      return table([
        ['model', 'bits per byte'],
        ['public model', bits(value['public'])],
        ...Object.entries(alone).map(([name, x]) => [`public model + ${name}`, bits(x)]),
        ['composition', bits(value['composed'])],
      ])
    }
    case 'generate': {
      const shares = value['experts'] as { institution: string; share: number }[]
      return [
        String(value['text']),
        '',
        shares.map((s) => `${s.institution} ${(100 * s.share).toFixed(0)} %`).join(', '),
      ]
    }
    default:
      return [JSON.stringify(result)]
  }
}
