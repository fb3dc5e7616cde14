/** Starts a node with its network, control socket and inference API, and stops all of it. Prints nothing. */
import { activityLine } from '../commands/jobs.ts'
import { type Attention, type NodeStatus, nodeStatus } from '../commands/status.ts'
import { isReadOnly, nodeCommands, wordedCommands } from '../commands/table.ts'
import { Dashboard } from '../dashboard/dashboard.ts'
import { ROLES } from '../dashboard/sessions.ts'
import type { WeightChoice } from '../inference/weight-format.ts'
import type { Digest } from '../lib/bytes.ts'
import { collectGarbage } from '../lib/collect-garbage.ts'
import { completeCommands } from '../lib/command-line.ts'
import { Fields } from '../lib/fields.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { NodeEvent } from '../node/events.ts'
import { FlexMeshNode } from '../node/node.ts'
import { loadApiKey } from '../serving/api-key.ts'
import { createApp } from '../serving/app.ts'
import { KeptCallers } from '../serving/callers.ts'
import { type Control, type ControlHandler, startControl } from '../serving/control.ts'
import type { Exposure } from '../serving/exposure.ts'
import { openGateway, type Upstream } from '../serving/gateway.ts'
import { isLoopbackHost } from '../serving/host.ts'
import { localBackend } from '../serving/local-engine.ts'
import { logRequest } from '../serving/request-log.ts'
import { type RunningServer, type Sent, startServer } from '../serving/server.ts'
import { ApiUsage } from '../store/api-usage.ts'
import { homePaths } from '../store/home.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { Metrics, type NodeState } from '../telemetry/metrics.ts'
import { type EngineChoice, selectEngine } from '../tensor/select-engine.ts'
import { backupHandler, WRITE_BACKUP } from './backup.ts'
import { unixNow } from './context.ts'
import { DASHBOARD_LINK } from './dashboard.ts'
import { eventLine } from './event-lines.ts'
import { packageVersion } from './version.ts'

/** Time between two writes of what the API has served, ms. */
const USAGE_FLUSH_MS = 30_000

export interface RunningNode {
  readonly node: FlexMeshNode
  readonly api: RunningServer
  /** The socket of the API for other machines. */
  readonly outside: RunningServer | undefined
  readonly apiKey: string
  /** A link that opens the dashboard once, as operator. */
  dashboardLink(): string
  stop(): Promise<void>
}

export interface StartInit {
  readonly home: string
  /** Port of the API on 127.0.0.1; 0 for any free port. */
  readonly port: number
  readonly engine?: EngineChoice
  readonly weights?: WeightChoice
  /** Bytes that serving may take. */
  readonly memory?: number
  readonly router?: RouterChoice
  /** Bytes that the home folder may take. */
  readonly maxDisk?: number
  /** See `NodeInit`. */
  readonly requireFinal?: boolean
  readonly passphrase?: string
  /** See `NodeInit`. */
  readonly homeOptions?: readonly string[]
  /** Origins whose web pages may read the answers of the API. */
  readonly origins?: readonly string[]
  /** How other machines reach the API; default: they do not. */
  readonly exposure?: Exposure
  /** Longest time that answers under way get to end when the node stops, ms; default: none. */
  readonly drainMs?: number
  /** Another server that computes the answers. */
  readonly upstream?: Upstream
  /** Default: silent. */
  readonly log?: Log
  readonly onEvent: (event: NodeEvent) => void
}

/** @throws InputError `no-home`, `home-in-use`, `not-a-member`, `port-in-use`, `engine-missing`, `out-of-memory`. */
export async function startNode(init: StartInit): Promise<RunningNode> {
  const { home, homeOptions = [], passphrase, weights, memory, router, requireFinal, maxDisk } = init
  const dashboard = await Dashboard.open({
    sessions: homePaths(home).dashboardSessions,
    now: unixNow,
    onUnexpected: (command, error) => log.error(`the command "${command}" failed`, error),
  })
  const log = (init.log ?? SILENT).also((entry) => {
    if (entry.level !== 'trace') dashboard.add({ event: 'log', ...entry })
  })
  // Not on the dashboard, whose pages would otherwise be told of their own requests.
  const requests = (init.log ?? SILENT).part('api')
  const onEvent = (event: NodeEvent): void => {
    dashboard.add({ ...event, words: completeCommands(eventLine(event), homeOptions) })
    init.onEvent(event)
  }
  const engine = await selectEngine(init.engine)
  const node = await FlexMeshNode.open({
    home,
    engine,
    // One process can load TensorFlow's binding in one thread only.
    ...(engine.name === 'tensorflow' ? {} : { jobThreads: init.engine ?? {} }),
    command: 'flexmesh start',
    homeOptions,
    now: unixNow,
    onEvent,
    log,
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(weights === undefined ? {} : { weights }),
    ...(memory === undefined ? {} : { memory }),
    ...(router === undefined ? {} : { router }),
    maxDisk,
    ...(requireFinal === undefined ? {} : { requireFinal }),
  })
  let control: Control | undefined
  let api: RunningServer | undefined
  let outside: RunningServer | undefined
  try {
    // Before anything is loaded: weights that do not fit are refused now, not at the first answer.
    if (init.upstream === undefined) node.composer.served.servingFormat()
    // Loading these modules takes up to a tenth of a second, in which the node could not answer: not at the first answer.
    await import('../inference/generate.ts')
    // Loading the program leaves garbage that V8 would keep for long. From now on a pause would delay answers.
    collectGarbage()
    await node.start()
    const apiKey = await loadApiKey(node.paths.apiKey)
    let port: number | undefined
    const { tokenizer, config } = node.publicModel
    const { endsOfText } = node.publicModel
    const local = localBackend(node.composer, node.prompts, tokenizer, endsOfText)
    const gateway =
      init.upstream === undefined
        ? undefined
        : await openGateway({
            upstream: init.upstream,
            local,
            consortium: node.consortium,
            publicModel: node.charter.publicModel.digest,
            prompts: node.prompts,
            vocabulary: tokenizer,
            contextLength: config.maxPositionEmbeddings,
            whyNotInUse: (id) => whyNotInUse(node, id),
            onComposition: (composition) => node.parts.upstream.set(composition),
            now: unixNow,
            onPrompt: (to, bytes) => node.egress.book?.add({ kind: 'prompt', to, bytes }),
          })
    const usage = await ApiUsage.open(node.paths.apiUsage)
    const flushing = setInterval(() => {
      usage
        .flush(unixNow())
        .catch((error: unknown) => log.warn('the use of the API could not be written', error))
    }, USAGE_FLUSH_MS)
    flushing.unref()
    const commands = nodeCommands(node)
    const statusOf = async (): Promise<NodeStatus> => nodeStatus(node)
    const app = createApp({
      metrics: new Metrics({ version: await packageVersion(), state: async () => stateOf(await statusOf()) }),
      obstacles: async () =>
        (await statusOf()).attention.filter(({ level }) => level === 'bad').map(({ text }) => text),
      mount: await dashboard.routes({
        peerId: node.identity.peerId,
        commands: wordedCommands(node),
        isReadOnly,
        about: () => ({
          institution: node.settings.institution,
          peerId: node.membership.seat,
          consortium: node.charter.name,
          consortiumId: node.consortium,
          commands: Object.keys(commands),
        }),
      }),
      backendFor: gateway ?? (() => local),
      ...(init.origins === undefined ? {} : { origins: init.origins }),
      tokenization: {
        prompts: node.prompts,
        vocabulary: tokenizer,
        contextLength: config.maxPositionEmbeddings,
      },
      callers: new KeptCallers({ operatorKey: apiKey, path: node.paths.apiKeys, usage, now: unixNow }),
      isOwnHost: (host) => port !== undefined && isLoopbackHost(host, port),
      outsideHosts: init.exposure?.hosts ?? [],
      now: unixNow,
      log: log.part('api'),
    })
    const onSent = (sent: Sent): void => {
      const { to, bytes, tokens } = sent
      node.egress.book?.add({ kind: 'answer', to, bytes, tokens })
      logRequest(requests, sent)
    }
    api = await startServer(app, init.port, log.part('api'), onSent)
    const listener = init.exposure?.listener
    if (listener !== undefined) outside = await startServer(app, 0, log.part('api'), onSent, listener)
    port = api.port
    const origin = `http://127.0.0.1:${api.port}`
    control = await startControl(
      node.paths.control,
      { ...commands, [DASHBOARD_LINK]: linker(dashboard, origin), [WRITE_BACKUP]: backupHandler(node) },
      {
        activity: () => node.activities.list().map(activityLine),
        log: log.part('control'),
      },
    )
    const running = { control, api, outside }
    return {
      node,
      api,
      outside,
      apiKey,
      dashboardLink: () => dashboard.link(origin, 'operator'),
      stop: async () => {
        dashboard.close()
        // Commands end, trainings with a checkpoint, while answers under way end, too.
        await Promise.all([
          running.control.close(),
          running.api.close(init.drainMs),
          running.outside?.close(init.drainMs),
        ])
        clearInterval(flushing)
        await usage.flush(unixNow())
        await node.close()
      },
    }
  } catch (error) {
    await control?.close()
    await api?.close()
    await outside?.close()
    await node.close()
    throw error
  }
}

function stateOf(status: NodeStatus): NodeState {
  const { members, connected, packages, freeBytes, attention, nodeKeyExpiresAt } = status
  const count = (level: Attention['level']): number => attention.filter((one) => one.level === level).length
  return {
    // The node is a member too.
    membersConnected: connected - 1,
    membersAway: members - connected,
    packages,
    freeBytes,
    ...(nodeKeyExpiresAt === undefined ? {} : { nodeKeyExpiresAt }),
    attention: { bad: count('bad'), warn: count('warn') },
  }
}

/** Makes links for the command `dashboard`. Whoever can open the control socket is the operator. */
function linker(dashboard: Dashboard, origin: string): ControlHandler {
  return async function* (request) {
    const role = new Fields(request, 'dashboard').literal('role', ...ROLES)
    return { link: dashboard.link(origin, role) }
  }
}

/** Why a node does not use the expert of a package, for people; undefined if it does. */
async function whyNotInUse(node: FlexMeshNode, id: Digest): Promise<string | undefined> {
  if (node.accepted.has(id)) return undefined
  const verdict = await node.parts.verdicts.get(id)
  return verdict?.outcome === 'refused' ? `${verdict.code}, ${verdict.reason}` : 'it has not been accepted'
}
