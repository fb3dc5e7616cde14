/** The command `start`: runs the node until it is interrupted, and prints what happens in it. */

import { listenOption, ROUTER } from '../commands/common-parameters.ts'
import {
  byteSize,
  flag,
  oneOf,
  option,
  path,
  repeated,
  text,
  thousandthsOrNone,
  usage,
  whole,
  withDefault,
} from '../commands/parameters.ts'
import { ownCommand } from '../lib/command-line.ts'
import { interrupted } from '../lib/pause.ts'
import type { Upstream } from '../serving/gateway.ts'
import { DEFAULT_OUTSIDE_PORT } from '../serving/outside-port.ts'
import { LOG_FORMATS } from '../telemetry/log-formats.ts'
import { localCommand } from './local-command.ts'
import type { Output } from './output.ts'
import type { RunningNode } from './running-node.ts'
import { createLog, reportEvents } from './start-log.ts'

export const MAX_PORT = 65_535
export const DEFAULT_PORT = 8080
const MAX_URL = 2048
const MAX_ORIGINS = 64
const MAX_LEVELS = 400
const MAX_NAME = 255
const MAX_HOSTS = 64
/** Seconds. Systemd and containers kill a service that takes much longer to stop. */
const DEFAULT_DRAIN = 10
const MAX_DRAIN = 3600
/** A home folder holds the public model at least. */
const MIN_DISK = 1e6
const MAX_DISK = 1e18
const MAX_EPSILON_MILLI = 1e9

export const START = localCommand({
  name: 'start',
  usage:
    'start [--port N] [--listen ADDRESS] [--listen-api HOST[:PORT] (--tls-cert FILE --tls-key FILE | --trusted-proxy CIDR...)] [--allowed-host NAME...] [--drain SECONDS] [--allow-origin ORIGIN...] [--max-epsilon E|none] [--require-final] [--max-disk SIZE] [--log-format pretty|json] [--log-level LEVELS] [--router auto|solved|rows] [--upstream URL --upstream-composition FILE]',
  parameters: {
    port: withDefault(
      option('port', 'port of the API on 127.0.0.1 (default 8080; 0: any free port)', whole(0, MAX_PORT)),
      DEFAULT_PORT,
    ),
    listen: listenOption(
      'address to listen on from now on, as in /ip4/0.0.0.0/tcp/4002; stored in settings.json',
    ),
    listenApi: option(
      'listen-api',
      `IP address and port (${DEFAULT_OUTSIDE_PORT} if it has none) at which other machines reach the API with a key, as in 0.0.0.0:8443; needs TLS files or a trusted proxy`,
      text(MAX_NAME),
    ),
    tlsCert: option('tls-cert', 'certificate for --listen-api, with its chain, in PEM', path),
    tlsKey: option('tls-key', 'key of this certificate in PEM, without a passphrase', path),
    trustedProxies: repeated(
      'trusted-proxy',
      'address or CIDR block of a proxy that may connect to --listen-api, as in 10.0.0.5; others may not',
      MAX_NAME,
      MAX_HOSTS,
    ),
    allowedHosts: repeated(
      'allowed-host',
      'name under which other machines ask the API, as in llm.example.org: with --listen-api, or through a proxy on this machine',
      MAX_NAME,
      MAX_HOSTS,
    ),
    drainSeconds: withDefault(
      option(
        'drain',
        `seconds that answers under way get to end when the node stops (default ${DEFAULT_DRAIN})`,
        whole(0, MAX_DRAIN),
      ),
      DEFAULT_DRAIN,
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
    maxDisk: option(
      'max-disk',
      'size that the home folder may have, as in 50GB; the node then fetches and trains nothing that exceeds it (default: what the disk has)',
      byteSize(MIN_DISK, MAX_DISK),
    ),
    logFormat: withDefault(
      option(
        'log-format',
        'lines of the log on standard error: pretty (default) for people, json for programs; with json also what happens in the node',
        oneOf(...LOG_FORMATS),
      ),
      'pretty',
    ),
    logLevel: option(
      'log-level',
      'error, warn, info, debug or trace, also by part of the node, as in info,network=debug (default: warn, or info with --log-format json)',
      text(MAX_LEVELS),
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
    {
      port,
      listen,
      allowOrigin,
      maxEpsilonMilli,
      requireFinal,
      maxDisk,
      logFormat,
      logLevel,
      listenApi,
      tlsCert,
      tlsKey,
      trustedProxies,
      allowedHosts,
      drainSeconds,
      router,
      upstream: url,
      upstreamComposition,
    },
  ) {
    const { home, engine, weights, memory, output, signal } = context
    const log = await createLog(output, logFormat, logLevel)
    const upstream = await upstreamOf(url, upstreamComposition)
    const { parseOrigin } = await import('../serving/cors.ts')
    const origins = allowOrigin?.map(parseOrigin)
    const { parseExposure } = await import('../serving/exposure.ts')
    const exposure = await parseExposure({ listenApi, tlsCert, tlsKey, trustedProxies, allowedHosts })
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
      homeOptions: output.homeOptions,
      port,
      engine,
      weights,
      ...(memory === undefined ? {} : { memory }),
      log,
      onEvent: reportEvents(output, log, logFormat),
      ...(router === undefined ? {} : { router }),
      ...(maxDisk === undefined ? {} : { maxDisk }),
      exposure,
      drainMs: 1000 * drainSeconds,
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
  { node, api, outside, dashboardLink }: RunningNode,
  upstream: Upstream | undefined,
  output: Output,
): void {
  const { peerId } = node.identity
  const addresses = node.addresses()
  const url = `http://127.0.0.1:${api.port}/v1`
  output.result(
    {
      peerId,
      addresses,
      api: url,
      ...(outside === undefined ? {} : { outsidePort: outside.port }),
      ...(upstream === undefined ? {} : { upstream: upstream.url.href }),
    },
    [
      `${node.settings.institution} is up as ${peerId}`,
      ...addresses.map((address) => `network ${address}`),
      `API     ${url}, key in ${node.paths.apiKey}`,
      ...(outside === undefined
        ? []
        : [`API     for other machines on port ${outside.port}, with a key on every route`]),
      ...(output.interactive
        ? [`dashboard ${dashboardLink()}`, `the link opens once; ${ownCommand('dashboard')} prints another`]
        : [`for the dashboard: ${ownCommand('dashboard')}`]),
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
        `accepts only experts of other members that state an epsilon of at most ${maxEpsilonMicro / 1e6}; ${ownCommand('start', '--max-epsilon', 'none')} ends this`,
      ]
}

/** The format of the weights, unless the model is so small that it does not matter. */
function weightsLines({ composer }: RunningNode['node']): string[] {
  const { way, format, reason } = composer.served.servingFormat()
  return way === 'copy' && format === 'fp32' ? [] : [reason]
}
