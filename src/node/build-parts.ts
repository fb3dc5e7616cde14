/**
 * Builds the parts of a node from its open home and connects them: which part asks which, and which events they report.
 * Each part is explained in its own file. Starts nothing.
 */
import { AcceptedExperts } from '../acceptance/accepted-experts.ts'
import { PackageStates } from '../acceptance/package-states.ts'
import { policyWith } from '../acceptance/policy.ts'
import { AcceptanceQueue } from '../acceptance/queue.ts'
import { Standing } from '../acceptance/standing.ts'
import { Verdicts } from '../acceptance/verdicts.ts'
import { WithdrawnWeights } from '../acceptance/withdrawn-weights.ts'
import { shortNames } from '../composition/attribution.ts'
import { DEFAULT_TOP_K } from '../composition/compose.ts'
import { Composer } from '../composition/composer.ts'
import { Exports } from '../composition/exports.ts'
import { seated } from '../composition/seats.ts'
import { UpstreamComposition } from '../composition/upstream-composition.ts'
import { PromptEncoder } from '../data/prompt-encoder.ts'
import { NODE_JOBS } from '../jobs/table.ts'
import { JobThreads } from '../jobs/threads.ts'
import { inlineJobs } from '../lib/jobs.ts'
import { Serial } from '../lib/serial.ts'
import { Trainings } from '../owner/trainings.ts'
import { isBehind, mustCatchUp } from '../pipeline/before-signing.ts'
import { packagesOf, unjudged } from '../pipeline/judging.ts'
import { OwnLogClaims } from '../pipeline/own-log-claims.ts'
import type { Parts } from '../pipeline/parts.ts'
import { prepare } from '../pipeline.ts'
import { WithdrawalLedger } from '../statements/withdrawal-ledger.ts'
import { DiskQuota } from '../store/disk-quota.ts'
import { DiskSpace } from '../store/disk-space.ts'
import { SILENT } from '../telemetry/log.ts'
import { Activities } from './activities.ts'
import { cosignedLogs } from './cosigning.ts'
import { NodeEgress } from './egress.ts'
import type { NodeInit } from './init.ts'
import type { NodeNetwork } from './node-network.ts'
import type { OpenHome } from './open-home.ts'

interface BuiltParts {
  readonly parts: Parts
  readonly prompts: PromptEncoder
  readonly egress: NodeEgress
  readonly activities: Activities
  /** Undefined if long computations run in the calling thread. */
  readonly threads: JobThreads | undefined
  /** Undefined if only the disk limits the home folder. */
  readonly quota: DiskQuota | undefined
}

interface Sources {
  readonly init: NodeInit
  readonly home: OpenHome
  readonly network: NodeNetwork
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

export function buildParts({ init, home, network, signal }: Sources): BuiltParts {
  const { identity, publicModel, catalogue, blobs, membership, statements, mark } = home
  const { now } = init
  const onEvent = init.onEvent ?? (() => undefined)
  const log = init.log ?? SILENT
  const policy = {
    ...policyWith(home.settings.maxEpsilonMicro, init.policy),
    requireFinal: init.requireFinal ?? init.policy?.requireFinal ?? false,
  }
  const { activities, threads } = computingParts(init, home)
  const trainings = new Trainings(activities, publicModel, home.paths.training, signal)
  const quota = init.maxDisk === undefined ? undefined : new DiskQuota(init.home, init.maxDisk)
  const space = new DiskSpace(blobs.dir, undefined, quota)
  const states = new PackageStates()
  const { verdicts, accepted } = expertsInUse(init, home)
  const parts: Parts = {
    identity,
    publicModel,
    blobs,
    catalogue,
    membership,
    statements,
    ledger: new WithdrawalLedger(),
    ...cosignedLogs({
      ...home,
      maySign: () => init.actAs === undefined && !mustCatchUp(parts),
      now,
      onEvent,
      onFinal: (publisher) => {
        if (publisher === membership.seat) network.spreadCosignatures()
        else if (policy.requireFinal) parts.queue.retry()
      },
    }),
    trainings,
    mark,
    claims: new OwnLogClaims(),
    policy,
    jobs: activities,
    queue: new AcceptanceQueue({
      prepare: (queued, inner) => prepare(parts, queued, inner),
      unjudged: (publisher, fromSeq, max) => unjudged(parts, publisher, fromSeq, max),
      states,
      freeBytes: () => space.free(),
      log: log.part('acceptance'),
      signal,
    }),
    states,
    space,
    verdicts,
    accepted,
    withdrawnWeights: new WithdrawnWeights({
      catalogue,
      arrivedAt: (id) => statements.arrivedAt(id),
      packagesOf: (publisher) => packagesOf(statements, publisher),
    }),
    standing: new Standing(policy.maxPackagesPerPublisher, now),
    composer: new Composer({
      engine: init.engine,
      publicModel,
      publicModelDigest: membership.charter.publicModel.digest,
      topK: init.topK ?? DEFAULT_TOP_K,
      router: init.router ?? 'auto',
      weights: init.weights ?? 'auto',
      memory: init.memory,
      codes: blobs.codes,
      experts: () => seated(usable(parts)),
      publicStatistics: () => trainings.publicStatistics(),
      onComposed: ({ digest, experts, router, routerNote }) => {
        const names = shortNames(experts.map(({ institution, name }) => ({ institution, expert: name })))
        onEvent({ event: 'composed', digest, experts: names, router, routerNote })
      },
      log: log.part('composition'),
    }),
    exports: new Exports(catalogue, log.part('exports')),
    upstream: new UpstreamComposition(),
    signing: new Serial(),
    fetch: (file, options) => network.fetch(file, options),
    news: { isPending: false },
    sendHead: (head) => network.sendHead(head),
    requestCosignatures: () => network.requestCosignatures(),
    disconnect: (peer) => network.disconnect(peer),
    log: log.part('pipeline'),
    onEvent,
    now,
    signal,
  }
  const prompts = new PromptEncoder(publicModel.tokenizer, publicModel.chatTemplate)
  return { parts, prompts, egress: egressOf(init, home), activities, threads, quota }
}

/** Long computations run in threads if the node was opened with them, otherwise in the calling thread. */
function computingParts(
  { engine, jobThreads, onEvent, now }: NodeInit,
  { paths, publicModel, blobs, membership }: OpenHome,
): Pick<BuiltParts, 'activities' | 'threads'> {
  const { training, root } = paths
  const threads =
    jobThreads === undefined
      ? undefined
      : new JobThreads({ engine: jobThreads, publicModel: paths.publicModel, training, root })
  const activities = new Activities({
    jobs: threads ?? inlineJobs(NODE_JOBS, { engine, publicModel, training, blobs }),
    institutionOf: (publisher) => membership.institutionOf(publisher),
    onEvent: onEvent ?? (() => undefined),
    now,
  })
  return { activities, threads }
}

/** The ledger of what leaves the node. */
function egressOf({ log, now }: NodeInit, { identity, paths, membership, catalogue }: OpenHome): NodeEgress {
  return new NodeEgress({
    dir: paths.egress,
    identity,
    wasOwnKey: (key) => membership.keys.seatEverOf(key) === membership.seat,
    catalogue,
    now,
    log: (log ?? SILENT).part('egress'),
  })
}

/** What was decided about the packages, and the experts in use that follow from it. */
function expertsInUse(
  { onEvent, log, now }: NodeInit,
  { publicModel, catalogue, blobs, membership, statements }: OpenHome,
): Pick<Parts, 'verdicts' | 'accepted'> {
  const institutionOf = (publisher: string): string => membership.institutionOf(publisher)
  const verdicts = new Verdicts({
    catalogue,
    institutionOf,
    onVerdict: (verdict, institution) => onEvent?.({ event: 'verdict', institution, verdict }),
  })
  const accepted = new AcceptedExperts({
    config: publicModel.config,
    catalogue,
    blobs,
    verdicts,
    keep: new Set(membership.charter.publicModel.files.map(({ sha256 }) => sha256)),
    institutionOf,
    mayPublish: (publisher, seq) => membership.mayPublish(publisher, seq),
    isForked: (publisher) => statements.isForked(publisher),
    now,
    log: (log ?? SILENT).part('acceptance'),
  })
  return { verdicts, accepted }
}

/** The accepted experts, without those of others while a copied or restored home may not know of their withdrawal. */
function usable(parts: Parts): ReturnType<AcceptedExperts['list']> {
  const all = parts.accepted.list()
  return isBehind(parts) ? all.filter(({ peerId }) => peerId === parts.membership.seat) : all
}
