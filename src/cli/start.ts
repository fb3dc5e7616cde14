/** `flexmesh start`: the node with its network, control socket and inference API, until interrupted. */
import { resolve } from 'node:path'
import { nodeCommands } from '../commands/table.ts'
import type { WeightFormat } from '../inference/weight-format.ts'
import { type Digest, shortDigest } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { NodeEvent } from '../node/events.ts'
import { FlexMeshNode } from '../node/node.ts'
import { loadApiKey } from '../serving/api-key.ts'
import { createApp } from '../serving/app.ts'
import { type Control, startControl } from '../serving/control.ts'
import { openGateway, type Upstream } from '../serving/gateway.ts'
import { localBackend } from '../serving/local-engine.ts'
import { type RunningServer, startServer } from '../serving/server.ts'
import { parseUpstreamUrl } from '../serving/upstream-engine.ts'
import { LOG_LEVELS, Log, logLine } from '../telemetry/log.ts'
import { type EngineChoice, selectEngine } from '../tensor/select-engine.ts'
import type { Invocation } from './arguments.ts'
import {
  type CommandContext,
  engineChoice,
  option,
  passphraseOf,
  routerChoice,
  unixNow,
  weightFormat,
  whole,
} from './context.ts'

const DEFAULT_PORT = 8080
const MAX_PORT = 65_535

export interface RunningNode {
  readonly node: FlexMeshNode
  readonly api: RunningServer
  readonly apiKey: string
  stop(): Promise<void>
}

export interface StartInit {
  readonly home: string
  readonly port: number
  readonly engine?: EngineChoice
  readonly weights?: WeightFormat
  readonly router?: RouterChoice
  readonly passphrase?: string
  readonly upstream?: Upstream
  readonly onEvent: (event: NodeEvent) => void
}

export async function startNode(init: StartInit): Promise<RunningNode> {
  const engine = await selectEngine(init.engine)
  const { home, passphrase, onEvent } = init
  const log = createLog()
  const node = await FlexMeshNode.open({
    home,
    engine,
    now: unixNow,
    onEvent,
    log,
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(init.weights === undefined ? {} : { weights: init.weights }),
    ...(init.router === undefined ? {} : { router: init.router }),
  })
  let control: Control | undefined
  let api: RunningServer | undefined
  try {
    await node.start()
    const apiKey = await loadApiKey(node.paths.apiKey)
    let hosts: string[] = []
    const { tokenizer, config } = node.publicModel
    const local = localBackend(node.composer, tokenizer)
    const gateway =
      init.upstream === undefined
        ? undefined
        : await openGateway({
            upstream: init.upstream,
            local,
            consortium: node.consortium,
            publicModel: node.charter.publicModel.digest,
            tokenizer,
            contextLength: config.maxPositionEmbeddings,
            whyNotInUse: (id) => whyNotInUse(node, id),
            now: unixNow,
          })
    const app = createApp({
      backendFor: gateway ?? (() => local),
      apiKeys: [apiKey],
      allowedHosts: () => hosts,
      now: unixNow,
      log: log.scope('serving'),
    })
    api = await startServer(app, init.port, log.scope('serving'))
    hosts = [`127.0.0.1:${api.port}`, `localhost:${api.port}`]
    control = await startControl(node.paths.control, nodeCommands(node), log.scope('control'))
    const running = { control, api }
    return {
      node,
      api,
      apiKey,
      stop: async () => {
        await running.control.close()
        await running.api.close()
        await node.close()
      },
    }
  } catch (error) {
    await control?.close()
    await api?.close()
    await node.close()
    throw error
  }
}

/** Log lines go to standard error; FLEXMESH_LOG chooses the level. */
function createLog(): Log {
  const level = LOG_LEVELS.find((known) => known === process.env['FLEXMESH_LOG'])
  return new Log((entry) => console.error(logLine(entry)), level)
}

/** Why a node does not use the expert of a package, for people; undefined if it does. */
async function whyNotInUse(node: FlexMeshNode, id: Digest): Promise<string | undefined> {
  if (node.accepted.has(id)) return undefined
  const verdict = await node.verdicts.get(id)
  return verdict?.outcome === 'refused' ? `${verdict.code}, ${verdict.reason}` : 'it has not been accepted'
}

/** @throws InputError `usage` when one of the two options is given without the other. */
function upstreamOf(invocation: Invocation): Upstream | undefined {
  const url = option(invocation, 'upstream')
  const compositionFile = option(invocation, 'upstream-composition')
  if (url === undefined && compositionFile === undefined) return undefined
  if (url === undefined || compositionFile === undefined) {
    throw new InputError(
      'usage',
      'start: --upstream URL and --upstream-composition FILE go together; the file lies in the export that the upstream serves',
    )
  }
  const apiKey = process.env['FLEXMESH_UPSTREAM_API_KEY']
  return {
    url: parseUpstreamUrl(url),
    compositionFile: resolve(compositionFile),
    ...(apiKey === undefined ? {} : { apiKey }),
  }
}

export async function runStart({ home, invocation, output, signal }: CommandContext): Promise<void> {
  const passphrase = await passphraseOf(invocation)
  const upstream = upstreamOf(invocation)
  const router = routerChoice(invocation)
  const running = await startNode({
    home,
    port: whole(invocation, 'port', MAX_PORT) ?? DEFAULT_PORT,
    onEvent: (event) => output.say(describeEvent(event)),
    engine: engineChoice(invocation),
    weights: weightFormat(invocation),
    ...(router === undefined ? {} : { router }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(upstream === undefined ? {} : { upstream }),
  })
  output.result(
    {
      peerId: running.node.identity.peerId,
      addresses: running.node.addresses(),
      api: `http://127.0.0.1:${running.api.port}/v1`,
      ...(upstream === undefined ? {} : { upstream: upstream.url.href }),
    },
    [
      `${running.node.settings.institution} is up as ${running.node.identity.peerId}`,
      ...running.node.addresses().map((address) => `network ${address}`),
      `API     http://127.0.0.1:${running.api.port}/v1, key in ${running.node.paths.apiKey}`,
      ...(upstream === undefined
        ? []
        : [`answers come from ${upstream.url.href}, which routes by router rows: an export has no gate`]),
    ],
  )
  try {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  } finally {
    await running.stop()
  }
}

export function describeEvent(event: NodeEvent): string {
  switch (event.event) {
    case 'member':
      return `new member: ${event.institution}`
    case 'revoked':
      return `no longer a member: ${event.institution}`
    case 'request':
      return `${event.institution} asks to join; run: flexmesh approve "${event.institution}"`
    case 'published':
      return `published ${event.expert} as ${shortDigest(event.id)}`
    case 'fetching':
      return `fetching ${event.expert} of ${event.institution}, ${(event.bytes / 1e6).toFixed(1)} MB`
    case 'verdict':
      return event.verdict.outcome === 'accepted'
        ? `accepted ${event.verdict.expert} of ${event.institution}`
        : `refused ${event.institution}: ${event.verdict.code} (${event.verdict.reason})`
    case 'withdrawn':
      return `${event.institution} withdrew ${shortDigest(event.id)}`
    case 'composed':
      return [
        `composition ${shortDigest(event.digest)}: public model${event.experts.map((name) => ` + ${name}`).join('')}`,
        ...(event.routerNote === undefined ? [] : [event.routerNote]),
      ].join('; ')
  }
}
