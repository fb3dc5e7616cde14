/** The command `start`: runs the node until it is interrupted, and prints what happens in it. */

import { listenOption, ROUTER } from '../commands/common-parameters.ts'
import {
  flag,
  option,
  path,
  repeated,
  text,
  thousandthsOrNone,
  usage,
  whole,
  withDefault,
} from '../commands/parameters.ts'
import { changeWords, proposalName } from '../commands/proposal-lines.ts'
import { endingConsentLine } from '../commands/release-lines.ts'
import { duration } from '../commands/terminal.ts'
import { withdrawalSummary } from '../commands/withdrawals.ts'
import { shortDigest } from '../lib/bytes.ts'
import { interrupted } from '../lib/pause.ts'
import type { TrainingEvent } from '../node/activities.ts'
import type { NodeEvent } from '../node/events.ts'
import type { Upstream } from '../serving/gateway.ts'
import { LOG_LEVELS, Log, logLine } from '../telemetry/log.ts'
import { localCommand } from './local-command.ts'
import type { Output } from './output.ts'
import type { RunningNode } from './running-node.ts'

export const MAX_PORT = 65_535
export const DEFAULT_PORT = 8080
const MAX_URL = 2048
const MAX_ORIGINS = 64
const MAX_EPSILON_MILLI = 1e9

export const START = localCommand({
  name: 'start',
  usage:
    'start [--port N] [--listen ADDRESS] [--allow-origin ORIGIN...] [--max-epsilon E|none] [--require-final] [--router auto|solved|rows] [--upstream URL --upstream-composition FILE]',
  parameters: {
    port: withDefault(
      option('port', 'port of the API on 127.0.0.1 (default 8080; 0: any free port)', whole(0, MAX_PORT)),
      DEFAULT_PORT,
    ),
    listen: listenOption(
      'address to listen on from now on, as in /ip4/0.0.0.0/tcp/4002; stored in settings.json',
    ),
    allowOrigin: repeated(
      'allow-origin',
      'origin whose web pages may ask the API with a key, as in https://chat.example.org',
      MAX_URL,
      MAX_ORIGINS,
    ),
    maxEpsilonMilli: option(
      'max-epsilon',
      'accept only experts of other members that state an epsilon of at most this, as in 8, or "none" to accept all; stored in settings.json',
      thousandthsOrNone(MAX_EPSILON_MILLI),
    ),
    requireFinal: flag(
      'require-final',
      'use packages of other members only when enough members have cosigned their manifests',
    ),
    router: ROUTER,
    upstream: option(
      'upstream',
      'OpenAI-compatible server that computes the answers, as in http://127.0.0.1:8000/v1',
      text(MAX_URL),
    ),
    upstreamComposition: option(
      'upstream-composition',
      'composition.json of the export that this server serves',
      path,
    ),
  },
  async work(
    context,
    { port, listen, allowOrigin, maxEpsilonMilli, requireFinal, router, upstream: url, upstreamComposition },
  ) {
    const { home, engine, weights, memory, output, signal } = context
    const log = createLog(output)
    const upstream = await upstreamOf(url, upstreamComposition)
    const { parseOrigin } = await import('../serving/cors.ts')
    const origins = allowOrigin?.map(parseOrigin)
    const passphrase = await context.passphrase()
    if (listen !== undefined) {
      const { changeListenAddresses } = await import('../node/found.ts')
      await changeListenAddresses(home, listen)
    }
    if (maxEpsilonMilli !== undefined) {
      const { changeMaxEpsilon } = await import('../node/found.ts')
      await changeMaxEpsilon(home, maxEpsilonMilli === 0 ? undefined : 1000 * maxEpsilonMilli)
    }
    const { startNode } = await import('./running-node.ts')
    const running = await startNode({
      home,
      port,
      engine,
      weights,
      ...(memory === undefined ? {} : { memory }),
      log,
      onEvent: (event) => output.say(eventLine(event)),
      ...(router === undefined ? {} : { router }),
      ...(requireFinal ? { requireFinal } : {}),
      ...(origins === undefined ? {} : { origins }),
      ...(passphrase === undefined ? {} : { passphrase }),
      ...(upstream === undefined ? {} : { upstream }),
    })
    printAddresses(running, upstream, output)
    try {
      await Promise.race([interrupted(signal), running.node.failure])
    } finally {
      await running.stop()
    }
  },
})

/** A log on standard error; FLEXMESH_LOG chooses the level. @throws InputError `usage` for an unknown level. */
function createLog(output: Output): Log {
  const given = process.env['FLEXMESH_LOG']
  const level = LOG_LEVELS.find((known) => known === given)
  if (given !== undefined && level === undefined) {
    throw usage(`FLEXMESH_LOG: expected one of ${LOG_LEVELS.join(', ')}, got "${given}"`)
  }
  return new Log((entry) => output.log(logLine(entry)), level)
}

/** @throws InputError `usage` if only one of the two options is given, or for a URL that cannot be used. */
async function upstreamOf(
  url: string | undefined,
  compositionFile: string | undefined,
): Promise<Upstream | undefined> {
  if (url === undefined && compositionFile === undefined) return undefined
  if (url === undefined || compositionFile === undefined) {
    throw usage(
      'start: --upstream URL and --upstream-composition FILE belong together; the file is in the export that the upstream serves',
    )
  }
  const { parseUpstreamUrl } = await import('../serving/upstream-engine.ts')
  const apiKey = process.env['FLEXMESH_UPSTREAM_API_KEY']
  return {
    url: parseUpstreamUrl(url),
    compositionFile,
    ...(apiKey === undefined ? {} : { apiKey }),
  }
}

function printAddresses(
  { node, api, dashboardLink }: RunningNode,
  upstream: Upstream | undefined,
  output: Output,
): void {
  const { peerId } = node.identity
  const addresses = node.addresses()
  const url = `http://127.0.0.1:${api.port}/v1`
  output.result(
    { peerId, addresses, api: url, ...(upstream === undefined ? {} : { upstream: upstream.url.href }) },
    [
      `${node.settings.institution} is up as ${peerId}`,
      ...addresses.map((address) => `network ${address}`),
      `API     ${url}, key in ${node.paths.apiKey}`,
      ...(output.interactive
        ? [`dashboard ${dashboardLink()}`, 'the link opens once; "flexmesh dashboard" prints another']
        : ['for the dashboard: flexmesh dashboard']),
      ...(node.isCopied
        ? [
            'this home was copied or restored from a backup: until a member has told what it holds, it signs nothing and uses no expert of others, who may have withdrawn it',
          ]
        : []),
      ...(upstream === undefined
        ? weightsLines(node)
        : [
            `answers come from ${upstream.url.href}, which routes by router rows: an export cannot hold a gate`,
          ]),
      ...guaranteeLines(node),
    ],
  )
}

/** What this node asks of the experts of others, unless it asks for nothing. */
function guaranteeLines({ settings: { maxEpsilonMicro } }: RunningNode['node']): string[] {
  return maxEpsilonMicro === undefined
    ? []
    : [
        `accepts only experts of other members that state an epsilon of at most ${maxEpsilonMicro / 1e6}; "flexmesh start --max-epsilon none" ends this`,
      ]
}

/** The format of the weights, unless the model is so small that it does not matter. */
function weightsLines({ composer }: RunningNode['node']): string[] {
  const { way, format, reason } = composer.served.servingFormat()
  return way === 'copy' && format === 'fp32' ? [] : [reason]
}

function eventLine(event: NodeEvent): string {
  switch (event.event) {
    case 'member':
      return `new member: ${event.institution}`
    case 'revoked':
      return event.isOwn
        ? 'this institution was taken off the roster: others take no new packages of it; the members can admit it again under a new key'
        : `no longer a member: ${event.institution}`
    case 'request':
      return `${event.institution} applies for membership; run: flexmesh approve "${event.institution}"`
    case 'proposal':
      return `${event.institution} proposes to ${changeWords(event.change)}; answer with: flexmesh endorse ${proposalName(event.id)}, or: flexmesh reject ${proposalName(event.id)}`
    case 'equivocation':
      return `CONTRADICTION: two proposals about one thing have both reached their quorum: ${event.proposals.map(proposalName).join(' and ')}. All nodes apply the same one. Supported both: ${event.institutions.join(', ') || 'nobody'}`
    case 'published':
      return `published ${event.expert} as ${shortDigest(event.id)}`
    case 'consent-ending':
      return endingConsentLine({ ...event, institution: '', isOwn: true })
    case 'withdrawal-open':
      return `withdrawal of ${event.experts.join(', ')}: ${withdrawalSummary(event.members, event.at)}`
    case 'training':
      return trainingLine(event)
    case 'fetching':
      return `fetching ${event.expert} of ${event.institution}, ${(event.bytes / 1e6).toFixed(1)} MB`
    case 'verdict':
      return event.verdict.outcome === 'accepted'
        ? `accepted ${event.verdict.expert} of ${event.institution}`
        : `refused a package of ${event.institution}: ${event.verdict.code} (${event.verdict.reason})`
    case 'withdrawn':
      return `${event.institution} withdrew ${shortDigest(event.id)}`
    case 'set-back':
      return 'this home was set back to an earlier state, as by a snapshot of its disk: members hold later statements of this node. It signs nothing and uses no expert of others until it has caught up with them'
    case 'forked':
      return event.isOwn
        ? 'FORKED: the key of this node has signed two different histories, for example because its home was copied or restored from a backup. No node uses its experts any more. Ask a founder to revoke this key, then join again with a new home.'
        : `FORKED: ${event.institution} (${event.peerId}) has signed two different histories. None of its experts is used any more; ask it what happened`
    case 'final':
      return `co-signed: ${event.size === 1 ? 'statement 1' : `statements 1 to ${event.size}`} of ${event.institution} are final`
    case 'contradiction':
      return `CONTRADICTION: ${event.institution} (${event.peerId}) has signed checkpoints of two different logs; "flexmesh log" shows them`
    case 'keys':
      return keysLine(event)
    case 'composed':
      return [
        `composition ${shortDigest(event.digest)}: public model${event.experts.map((name) => ` + ${name}`).join('')}`,
        ...(event.routerNote === undefined ? [] : [event.routerNote]),
      ].join('; ')
  }
}

function keysLine({ institution, isOwn, isRotation, node }: Extract<NodeEvent, { event: 'keys' }>): string {
  const what = isRotation ? 'rotated its institution key' : 'confirmed its institution key'
  const whose = isOwn ? 'this institution' : institution
  return node === undefined
    ? `${whose} ${what} and ended its node key; its nodes sign nothing until it names another one`
    : `${whose} ${what}; its node key is ${node} now`
}

function trainingLine({ name, state, step, reason }: TrainingEvent): string {
  const count = step === undefined ? '' : `step ${step.step} of ${step.totalSteps}`
  switch (state) {
    case 'started':
      return `training ${name}: started`
    case 'running':
      return `training ${name}: ${count}, loss ${step?.loss.toFixed(3)}, ${duration(step?.secondsLeft ?? 0)} left`
    case 'finished':
      return `training ${name}: finished; next: flexmesh publish ${name}`
    case 'stopped':
      return `training ${name}: stopped${count === '' ? '' : ` at ${count}`}; run the same command to continue it`
    case 'failed':
      return `training ${name}: failed: ${reason}`
  }
}
