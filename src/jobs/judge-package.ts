/**
 * The job that reads a package's file, checks its weights and measures it beside the experts in use. Its request holds
 * plain values only: the experts in use are named by their manifests and read from the store. Does not fetch and does
 * not decide what happens to a package.
 */
import {
  FILE_CHECK,
  judgeWeights,
  type OpenedManifest,
  TENSORS_CHECK,
  type Tensors,
  type Verdict,
} from '../acceptance/accept.ts'
import type { AcceptancePolicy } from '../acceptance/policy.ts'
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import { digestOf } from '../lib/bytes.ts'
import { type FlexMeshError, FormatError, InputError, VerificationError } from '../lib/errors.ts'
import { type FileRef, fileRefOf, fileRefOfPath } from '../lib/file-ref.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { Expert } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import { allOwnHeldOut, publicHeldOut } from '../owner/held-out.ts'
import { finishedTrainings, loadTrained } from '../owner/training-folder.ts'
import type { Manifest } from '../packaging/manifest.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { readExpert, type Workplace } from './workplace.ts'

/** Bytes of held-out text of each kind on which an expert is measured: enough to see one percent. */
const MEASURED_BYTES = 16_384

export interface JudgeRequest {
  readonly opened: OpenedManifest
  /** The verdict of the checks that need no weights. */
  readonly soFar: Verdict
  readonly policy: AcceptancePolicy
  /** Manifests of the experts in use, beside which the package is measured. */
  readonly baseline: readonly Manifest[]
  /** Also measure beside the finished trainings of this node, except those of these names. */
  readonly trainingsExcept: readonly string[] | undefined
  readonly topK: number
  readonly router: RouterChoice
  readonly publicStatistics: RouterStatistics
}

/** The check that begins: `file`, `tensors` with the other checks of the weights, or `measurement`. */
export interface JudgeProgress {
  readonly check: string
}

export interface JudgedPackage {
  readonly verdict: Verdict
  /** Undefined if the measurement was not reached. */
  readonly tensors?: Tensors | undefined
}

/**
 * Reach the verdict on a package whose file is in the store.
 * @throws InputError `io` for a file that the disk has damaged, which is then deleted, so that it is fetched again; any
 * error that prevents a verdict.
 */
export async function judgePackage(
  workplace: Workplace,
  request: JudgeRequest,
  signal: AbortSignal,
  report: (progress: JudgeProgress) => void,
): Promise<JudgedPackage> {
  const { blobs, engine, publicModel, training } = workplace
  const { opened, soFar, policy, topK, router, publicStatistics } = request
  report({ check: FILE_CHECK })
  const weights = await readWeights(blobs, opened.manifest.files[0], signal)
  if (weights instanceof VerificationError) return { verdict: refusedFile(soFar, weights) }
  report({ check: TENSORS_CHECK })
  const context = { publicModel, policy, now: soFar.at }
  return judgeWeights(soFar, opened, weights, context, async (tensors) => {
    report({ check: 'measurement' })
    const { measure } = await import('../acceptance/measure.ts')
    const baseline = await baselineOf(workplace, request, signal)
    const candidate = expertOfTensors(publicModel.config, tensors)
    const init = {
      engine,
      publicModel,
      topK,
      router,
      publicText: () => publicHeldOut(publicModel, training, signal, MEASURED_BYTES),
      ownText: () => allOwnHeldOut(publicModel, training, MEASURED_BYTES),
      publicStatistics: async () => publicStatistics,
    }
    return measure(init, baseline, candidate, signal)
  })
}

/**
 * Read a package's file and compare it with all that its publisher signed about it. The file may have been fetched for
 * another package.
 * @returns its bytes; an error if its publisher signed another size or other chunk hashes.
 * @throws InputError `io` for a file that the disk has damaged; it is deleted, so that it is fetched again.
 */
async function readWeights(
  blobs: BlobStore,
  file: FileRef,
  signal: AbortSignal,
): Promise<Uint8Array | VerificationError> {
  try {
    const bytes = await blobs.readAll(file.sha256, file.size, signal)
    if (bytes.length !== file.size) return wrongSize(file.size, bytes.length)
    return (await haveChunks(blobs, file, bytes, signal)) ? bytes : wrongChunks(file)
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof VerificationError)) throw error
    // A file that is too large was not hashed. It is its publisher's fault only if the digest is right.
    const { ref } = await fileRefOfPath(blobs.path(file.sha256), signal)
    if (ref.sha256 === file.sha256) return wrongSize(file.size, ref.size)
    await blobs.delete(file.sha256)
    throw new InputError('io', `the disk has damaged ${file.sha256}; it is fetched again`, {}, error)
  }
}

/**
 * Whether the chunks of a file are those that its publisher signed. Members that hold the file would otherwise use a
 * package that nobody else can fetch.
 */
async function haveChunks(
  blobs: BlobStore,
  { sha256, chunksSha256 }: FileRef,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<boolean> {
  if (digestOf(await blobs.chunkHashes(sha256, signal)) === chunksSha256) return true
  // The disk may have damaged the stored hashes, which is no fault of the publisher.
  return fileRefOf(bytes).ref.chunksSha256 === chunksSha256
}

function wrongChunks({ sha256, chunksSha256 }: FileRef): VerificationError {
  return new VerificationError(
    'wrong-digest',
    `file: ${sha256} has other chunks than ${chunksSha256}, as signed`,
  )
}

function wrongSize(signed: number, got: number): VerificationError {
  return new VerificationError('wrong-digest', `file: expected ${signed} bytes as signed, got ${got}`)
}

/** Refusal of a package whose file is not what its publisher signed. */
export function refusedFile(soFar: Verdict, { code, message: reason }: FlexMeshError): Verdict {
  return { ...soFar, outcome: 'refused', check: FILE_CHECK, code, reason }
}

async function baselineOf(
  { blobs, publicModel, training }: Workplace,
  { baseline, trainingsExcept }: JudgeRequest,
  signal: AbortSignal,
): Promise<Expert[]> {
  const experts: Expert[] = []
  for (const manifest of baseline) {
    try {
      experts.push(await readExpert(publicModel.config, blobs, manifest, signal))
    } catch (error) {
      // Its owner withdrew it after this job was requested.
      if (!(error instanceof InputError && error.code === 'not-found')) throw error
    }
  }
  if (trainingsExcept === undefined) return experts
  for (const name of await finishedTrainings(training)) {
    if (!trainingsExcept.includes(name)) {
      experts.push((await loadTrained(publicModel, training, name)).expert)
    }
  }
  return experts
}
