/**
 * The job that reads a package's file, checks its weights and measures it beside the experts in use. Its request holds
 * plain values only: the experts in use are named by their manifests and read from the store. Does not fetch and does
 * not decide what happens to a package.
 */
import {
  FILE_CHECK,
  type Judged,
  judgeWeights,
  type OpenedManifest,
  TENSORS_CHECK,
  type Tensors,
  type Verdict,
  type WeightContext,
} from '../acceptance/accept.ts'
import type { Measurement } from '../acceptance/measurement-checks.ts'
import type { Judging } from '../acceptance/package-states.ts'
import type { AcceptancePolicy } from '../acceptance/policy.ts'
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import { eachPercent } from '../lib/each-percent.ts'
import { type FlexMeshError, InputError, VerificationError } from '../lib/errors.ts'
import { type FileRef, fileRefOfPath } from '../lib/file-ref.ts'
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
  /** See `WeightContext`. */
  readonly withdrawn: WeightContext['withdrawn'] & object
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
  report: (progress: Judging) => void,
): Promise<Judged> {
  const { blobs, engine, publicModel, training } = workplace
  const { opened, soFar, policy, topK, router, publicStatistics, withdrawn } = request
  report({ check: FILE_CHECK })
  const [file] = opened.manifest.files
  const tell = eachPercent(report, ({ check }) => check)
  const onHashed = (done: number): void => tell({ check: FILE_CHECK, done, total: file.size })
  const fault = await compareFile(blobs, file, signal, onHashed)
  if (fault !== undefined) return { verdict: refusedFile(soFar, fault) }
  report({ check: TENSORS_CHECK })
  const context = { publicModel, policy, now: soFar.at, withdrawn }
  const path = blobs.path(file.sha256)
  const takeMeasure = async (tensors: Tensors): Promise<Measurement> => {
    report({ check: 'measurement' })
    const { measure } = await import('../acceptance/measure.ts')
    const baseline = await baselineOf(workplace, request, signal)
    const candidate = await expertOfTensors(publicModel.config, tensors, signal)
    const init = {
      engine,
      publicModel,
      topK,
      router,
      publicText: () => publicHeldOut(publicModel, training, signal, MEASURED_BYTES),
      ownText: () => allOwnHeldOut(publicModel, training, MEASURED_BYTES),
      publicStatistics: async () => publicStatistics,
    }
    return measure(init, baseline, candidate, signal, measurementProgress(report))
  }
  return judgeWeights(soFar, opened, path, context, takeMeasure, signal, tell)
}

/** Reports the share of a measurement that is done, each hundredth once. */
function measurementProgress(report: (progress: Judging) => void): (share: number) => void {
  const started = performance.now()
  let reported = 0
  return (share) => {
    const done = Math.floor(100 * share)
    if (done <= reported) return
    reported = done
    const secondsLeft = ((performance.now() - started) / 1000 / share) * (1 - share)
    report({ check: 'measurement', done, total: 100, secondsLeft })
  }
}

/**
 * Read a package's file and compare it with all that its publisher signed about it. The file may have been fetched for
 * another package.
 * @returns an error if its publisher signed another size or other chunk hashes. Members that hold a file with other
 * chunks would use a package that nobody else can fetch.
 * @throws InputError `io` for a file that the disk has damaged; it is deleted, so that it is fetched again.
 */
async function compareFile(
  blobs: BlobStore,
  file: FileRef,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<VerificationError | undefined> {
  const { ref } = await fileRefOfPath(blobs.path(file.sha256), signal, onProgress)
  if (ref.sha256 !== file.sha256) {
    await blobs.delete(file.sha256)
    throw new InputError('io', `the disk has damaged ${file.sha256}; it is fetched again`)
  }
  if (ref.size !== file.size) return wrongSize(file.size, ref.size)
  return ref.chunksSha256 === file.chunksSha256 ? undefined : wrongChunks(file)
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
