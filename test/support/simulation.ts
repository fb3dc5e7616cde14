/**
 * A consortium whose members run the whole data path, on real disks and with real statements, but without sockets,
 * tensor engines and waiting: what a member hears, and when, is decided by the test. Weights are judged by every check
 * but for the measurement, which finds that an expert harms nobody.
 */

import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { judgeWeights } from '../../src/acceptance/accept.ts'
import { AcceptedExperts } from '../../src/acceptance/accepted-experts.ts'
import { PackageStates } from '../../src/acceptance/package-states.ts'
import { DEFAULT_POLICY } from '../../src/acceptance/policy.ts'
import { AcceptanceQueue } from '../../src/acceptance/queue.ts'
import { Standing } from '../../src/acceptance/standing.ts'
import { Verdicts } from '../../src/acceptance/verdicts.ts'
import { WithdrawnWeights } from '../../src/acceptance/withdrawn-weights.ts'
import { tensorsOfExpert } from '../../src/checkpoint/expert-tensors.ts'
import type { PublicModel } from '../../src/checkpoint/public-model.ts'
import { Composer } from '../../src/composition/composer.ts'
import { Exports } from '../../src/composition/exports.ts'
import { UpstreamComposition } from '../../src/composition/upstream-composition.ts'
import { Membership } from '../../src/consortium/membership.ts'
import type { Identity } from '../../src/identity/keys.ts'
import type { NodeJobRunner } from '../../src/jobs/table.ts'
import { type Digest, utf8 } from '../../src/lib/bytes.ts'
import { ExchangeError, InputError } from '../../src/lib/errors.ts'
import type { FileRef } from '../../src/lib/file-ref.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { Serial } from '../../src/lib/serial.ts'
import { configToShape } from '../../src/model/config.ts'
import type { Expert } from '../../src/model/params.ts'
import { type Param, requireWeight, wholeValues } from '../../src/model/weights.ts'
import { cosignedLogs } from '../../src/node/cosigning.ts'
import { restore } from '../../src/node/restore.ts'
import type { PackedTraining, PackRequest } from '../../src/owner/pack-training.ts'
import { Trainings } from '../../src/owner/trainings.ts'
import { packExpert } from '../../src/packaging/package.ts'
import { ingestFork, spreadNews } from '../../src/pipeline/forks.ts'
import { packagesOf, unjudged } from '../../src/pipeline/judging.ts'
import { OwnLogClaims } from '../../src/pipeline/own-log-claims.ts'
import type { Parts } from '../../src/pipeline/parts.ts'
import { ingest, prepare, publish, supersedeOlder } from '../../src/pipeline.ts'
import { StatementLog } from '../../src/statements/statement-log.ts'
import { WithdrawalLedger } from '../../src/statements/withdrawal-ledger.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { DiskSpace } from '../../src/store/disk-space.ts'
import { HomeMark } from '../../src/store/home-mark.ts'
import { writeHashedFile } from '../../src/store/write-hashed.ts'
import { SILENT } from '../../src/telemetry/log.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { CheckpointNotes } from '../../src/transparency/checkpoint-notes.ts'
import { charterOf, consortium, NOW, type TestConsortium } from './consortium.ts'

/** Writes are flushed, which costs nothing in memory. */
const SCRATCH = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
/** Never asked: nothing is generated or measured. */
const engine = onnxEngine({ threads: 1 })
const POLICY = { ...DEFAULT_POLICY, maxRouterRowNorm: 1000 }

/** A consortium beside a public model, founded by `founder`. */
export function simulatedConsortium(founder: Identity, { config }: PublicModel): TestConsortium {
  const { publicModel } = charterOf([founder])
  return consortium([founder], { publicModel: { ...publicModel, config: configToShape(config) } })
}

/** Contents of the public model's files, as its charter names them. */
const PUBLIC_FILES = ['config', 'tokenizer', 'weights', 'replay'].map((role) => utf8(role))

export interface SimulatedNode {
  readonly identity: Identity
  /** Replaced by `restart`. */
  parts: Parts
  /** Whether no byte can be written. */
  isDiskFull: boolean
  /** Number of heads that it has announced. */
  announced: number
  /** Names of the files in its blob store. */
  files(): Promise<string[]>
  restart(): Promise<void>
  close(): Promise<void>
}

export interface SimulationInit {
  readonly consortium: TestConsortium
  readonly publicModel: PublicModel
  /** The nodes whose files a node can fetch now. */
  readonly holders: (of: SimulatedNode) => readonly SimulatedNode[]
}

export async function simulatedNode(init: SimulationInit, identity: Identity): Promise<SimulatedNode> {
  const dir = await mkdtemp(join(SCRATCH, 'flexmesh-simulation-'))
  const setup = await BlobStore.open(dir)
  for (const file of PUBLIC_FILES) await setup.put(file)
  let stopping = new AbortController()
  let catalogue: Catalogue
  const open = async (): Promise<Parts> => {
    stopping = new AbortController()
    catalogue = await Catalogue.open(dir)
    const parts = await partsOf(init, node, dir, catalogue, stopping.signal)
    await restore(parts)
    await supersedeOlder(parts)
    return parts
  }
  const close = async (): Promise<void> => {
    stopping.abort()
    await node.parts.queue.settled()
    await node.parts.signing.idle()
    await node.parts.composer.dispose()
    await catalogue.close()
  }
  const node: SimulatedNode = {
    identity,
    isDiskFull: false,
    announced: 0,
    files: async () => (await readdir(join(dir, 'blobs'))).filter((name) => !name.includes('.')).sort(),
    restart: async () => {
      await close()
      node.parts = await open()
    },
    close: async () => {
      await close()
      await rm(dir, { recursive: true })
    },
    // Replaced below, before anybody sees the node.
    parts: undefined as never,
  }
  node.parts = await open()
  return node
}

async function partsOf(
  init: SimulationInit,
  node: SimulatedNode,
  dir: string,
  catalogue: Catalogue,
  signal: AbortSignal,
): Promise<Parts> {
  const { publicModel } = init
  const { identity } = node
  const now = (): number => NOW
  const { charterEnvelope, charter } = init.consortium
  const membership = await Membership.open({
    identity,
    catalogue,
    charterEnvelope,
    now,
    onEvent: () => undefined,
  })
  const statements = await StatementLog.open({ identity, catalogue, membership, now })
  const blobs = await BlobStore.open(dir)
  const institutionOf = (publisher: string): string => membership.institutionOf(publisher)
  const verdicts = new Verdicts({ catalogue, institutionOf, onVerdict: () => undefined })
  const accepted = new AcceptedExperts({
    config: publicModel.config,
    catalogue,
    blobs,
    verdicts,
    keep: new Set(charter.publicModel.files.map(({ sha256 }) => sha256)),
    institutionOf,
    mayPublish: (publisher, seq) => membership.mayPublish(publisher, seq),
    isForked: (publisher) => statements.isForked(publisher),
    now,
  })
  const jobs = jobsOf(publicModel, blobs)
  const trainings = new Trainings(jobs, publicModel, join(dir, 'training'), signal)
  const composer = new Composer({
    engine,
    publicModel,
    publicModelDigest: charter.publicModel.digest,
    topK: 4,
    router: 'auto',
    weights: 'fp32',
    experts: () => accepted.list(),
    publicStatistics: () => trainings.publicStatistics(),
    onComposed: () => undefined,
  })
  const states = new PackageStates()
  const space = new DiskSpace(dir, async () => ({
    totalBytes: 2 ** 40,
    freeBytes: node.isDiskFull ? 0 : 2 ** 39,
  }))
  const mark = await HomeMark.open(dir, catalogue)
  const notes = await CheckpointNotes.open(catalogue, membership)
  await notes.stateWitnessKey(identity, NOW)
  const onEvent = (): void => undefined
  const parts: Parts = {
    catalogue,
    ledger: new WithdrawalLedger(),
    exports: new Exports(catalogue, SILENT),
    upstream: new UpstreamComposition(),
    claims: new OwnLogClaims(),
    withdrawnWeights: new WithdrawnWeights({
      catalogue,
      arrivedAt: (id) => statements.arrivedAt(id),
      packagesOf: (publisher) => packagesOf(statements, publisher),
    }),
    ...cosignedLogs({
      identity,
      catalogue,
      membership,
      notes,
      maySign: () => true,
      now,
      onEvent,
      onFinal: onEvent,
    }),
    identity,
    publicModel,
    blobs,
    membership,
    statements,
    trainings,
    mark,
    policy: POLICY,
    disconnect: async () => undefined,
    jobs,
    queue: new AcceptanceQueue({
      prepare: (queued, inner) => prepare(parts, queued, inner),
      unjudged: (publisher, fromSeq, max) => unjudged(parts, publisher, fromSeq, max),
      states,
      freeBytes: () => space.free(),
      log: SILENT,
      signal,
    }),
    states,
    space,
    verdicts,
    accepted,
    standing: new Standing(POLICY.maxPackagesPerPublisher, now),
    composer,
    signing: new Serial(),
    fetch: (file) => copyFrom(init.holders(node), file, node),
    news: { isPending: false },
    sendHead: async () => void node.announced++,
    requestCosignatures: () => undefined,
    log: SILENT,
    onEvent,
    now,
    signal,
  }
  return parts
}

async function copyFrom(
  holders: readonly SimulatedNode[],
  { sha256, size }: FileRef,
  to: SimulatedNode,
): Promise<void> {
  for (const { parts } of holders) {
    if (!(await parts.blobs.has(sha256))) continue
    const bytes = await parts.blobs.readAll(sha256, size).catch(() => undefined) // Deleted, or larger than signed.
    if (bytes === undefined) continue
    if (to.isDiskFull) throw new InputError('disk-full', 'no space left')
    await to.parts.blobs.put(bytes)
    return
  }
  throw new ExchangeError('unreachable', `no member that holds ${sha256} is connected`)
}

/** Judges with every check but the measurement; refuses all other jobs. */
function jobsOf(publicModel: PublicModel, blobs: BlobStore): NodeJobRunner {
  const results = {
    prepareReplay: async () => null,
    pack: async ({ publish, into }: PackRequest): Promise<PackedTraining> => {
      const { name, domain, dtype } = publish
      const tensors = tensorsOfExpert(publicModel.config, await expertOf(publicModel, Number(domain)))
      const { shape, pieces } = packExpert(tensors, dtype)
      return {
        file: await writeHashedFile(into as string, pieces()),
        shape,
        statistics: { statisticsDocuments: 0, statisticsEpsilonMilli: 0, statisticsNoise: 0 },
        result: { name, steps: 1, tokens: 1, documents: 1, replayShareMilli: 0, statisticsDocuments: 0 },
        tunedRuns: 1,
        spending: undefined,
        derivation: undefined,
        audit: undefined,
      }
    },
    publicStatistics: async () => ({ tokens: new Float32Array(publicModel.config.vocabSize) }),
    judge: async ({ opened, soFar, policy, withdrawn }: JudgeRequest) => {
      const [{ sha256 }] = opened.manifest.files
      const context = { publicModel, policy, now: soFar.at, withdrawn }
      return judgeWeights(soFar, opened, blobs.path(sha256), context, async () => HARMLESS, never)
    },
  }
  return {
    async *run(name, request) {
      const job = (results as Record<string, ((request: unknown) => Promise<unknown>) | undefined>)[name]
      if (job === undefined) throw new Error(`the simulation has no job ${name}`)
      return (await job(request)) as never
    },
  }
}
const never = new AbortController().signal
type JudgeRequest = import('../../src/jobs/judge-package.ts').JudgeRequest
const HARMLESS = { public: { before: 1, after: 1 }, publicLoadShare: 0.01 }

/** Publish an expert whose weights follow from `seed`. @returns its package id. */
export async function publishExpert({ parts }: SimulatedNode, name: string, seed: number): Promise<Digest> {
  const request = {
    name,
    license: 'CC0-1.0',
    domain: String(seed), // The job `pack` computes the weights from it.
    dtype: 'F32',
    statistics: 'none',
    epsilonMilli: 0,
  } as const
  return (await publish(parts, request)).id
}

/** The public FFN with a little noise. */
async function expertOf({ config, weights }: PublicModel, seed: number): Promise<Expert<Param>> {
  const random = mulberry32(seed)
  const ffn = new Map<string, Param>()
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of ['gate_proj', 'up_proj', 'down_proj']) {
      const source = requireWeight(weights, `model.layers.${layer}.mlp.${projection}.weight`)
      const values = await wholeValues(source)
      ffn.set(`${layer}.${projection}`, {
        shape: source.shape,
        data: values.map((x) => x + 0.001 * (random() - 0.5)),
      })
    }
  }
  const rows = Array.from({ length: config.numHiddenLayers }, () =>
    Float32Array.from({ length: config.hiddenSize }, () => random() - 0.5),
  )
  return { ffn, routerRows: rows, bias: undefined }
}

/** Give one node what another one holds and it lacks, as after a request for statements. */
export async function pull(to: SimulatedNode, from: SimulatedNode): Promise<void> {
  const request = to.parts.statements.request()
  for await (const offered of from.parts.statements.since(request)) {
    if (offered.kind === 'fork') await ingestFork(to.parts, offered.envelopes)
    else await ingest(to.parts, offered.envelope)
  }
  await spreadNews(to.parts)
}
