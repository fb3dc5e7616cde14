/**
 * All trainings of a home: what the node and its commands ask about them, and the state that those questions share.
 * Knows nothing about statements or the network.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { PrepareProgress } from '../data/prepare-progress.ts'
import { type JobRunner, resultOf } from '../lib/jobs.ts'
import { SharedWork } from '../lib/shared-work.ts'
import { Turns, type Waiting } from '../lib/turns.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { KeptReport } from '../privacy/audit-report.ts'
import type { AuditProgress, AuditRequest } from './audit-training.ts'
import { PrivacyBudget, type SpentGroup } from './budget.ts'
import type { PairExport } from './export-pair.ts'
import type { BytesDone, ExportRequest, OwnerJobs } from './owner-jobs.ts'
import type { PackedTraining, PackProgress, PackRequest } from './pack-training.ts'
import type { TrainingPreview } from './preview-training.ts'
import { forgetTraining } from './private-data.ts'
import type { TrainedExpert } from './release.ts'
import type { StartEvent, TrainEvent, TrainRequest } from './train-expert.ts'
import { claimTraining } from './training-claim.ts'
import { finishedTrainings, loadTrained, trainingDirs } from './training-folder.ts'
import { type KnownTraining, knownTrainings } from './training-list.ts'

export class Trainings {
  /** What each text has spent of its privacy. */
  readonly budget: PrivacyBudget
  readonly #jobs: JobRunner<OwnerJobs>
  readonly #model: PublicModel
  readonly #root: string
  readonly #signal: AbortSignal
  readonly #preparing = new SharedWork<null>()
  readonly #counting = new SharedWork<RouterStatistics>()
  /** Trainings and exports run one at a time: each takes all processors and several times the memory of the model. */
  readonly #turns = new Turns()
  #publicStatistics: RouterStatistics | undefined

  /**
   * @param jobs runs the long computations
   * @param root folder of the trainings, which need not exist yet.
   * @param signal ends everything that these trainings do.
   */
  constructor(jobs: JobRunner<OwnerJobs>, model: PublicModel, root: string, signal: AbortSignal) {
    this.#jobs = jobs
    this.#model = model
    this.#root = root
    this.budget = new PrivacyBudget(root)
    this.#signal = signal
  }

  /** Names of the finished trainings: those whose result was written. */
  finished(): Promise<string[]> {
    return finishedTrainings(this.#root)
  }

  /** All trainings, finished or not. */
  list(): Promise<KnownTraining[]> {
    return knownTrainings(this.#root)
  }

  /**
   * The trained expert and what its run recorded.
   * @throws InputError `not-found` before the training has finished.
   */
  load(name: string): Promise<TrainedExpert> {
    return loadTrained(this.#model, this.#root, name)
  }

  /**
   * Prepare the public text for replay if that was not done yet. Must precede every job that reads it: two jobs in two
   * threads that prepare it at the same time would overwrite each other's files.
   * @throws InputError of `openReplay`; the next call then tries again.
   */
  async prepareReplay(signal: AbortSignal): Promise<void> {
    await this.#preparing.run(
      'replay',
      (shared) => resultOf(this.#jobs.run('prepareReplay', null, shared)),
      this.#either(signal),
    )
  }

  /**
   * Router statistics of the public text, computed once: that text never changes.
   * @throws InputError of `openReplay`; the next call then tries again.
   */
  async publicStatistics(): Promise<RouterStatistics> {
    if (this.#publicStatistics !== undefined) return this.#publicStatistics
    await this.prepareReplay(this.#signal)
    this.#publicStatistics = await this.#counting.run(
      'public',
      (signal) => resultOf(this.#jobs.run('publicStatistics', null, signal)),
      this.#signal,
    )
    return this.#publicStatistics
  }

  /**
   * An epsilon of what was spent on a group of documents that is closer to the smallest one than that of the account.
   * Undefined if nothing bounds it.
   */
  async tightEpsilon(group: SpentGroup, signal: AbortSignal): Promise<number | undefined> {
    const { mechanisms, accountantDelta: delta } = group
    if (mechanisms === null || delta <= 0) return undefined
    return resultOf(this.#jobs.run('tightEpsilon', { mechanisms, delta }, this.#either(signal)))
  }

  /** Names of the trainings and exports that wait for their turn, in order. */
  waiting(): string[] {
    return this.#turns.waiting()
  }

  /**
   * Keep the folder of a training for something else than this object, such as an import by another process.
   * @returns the function that gives it up. @throws InputError `exists` while something uses the folder.
   */
  claim(name: string): () => void {
    return claimTraining(trainingDirs(this.#root, name), name, 'import')
  }

  /** See `forgetTraining`. */
  forget(name: string): Promise<void> {
    return forgetTraining(this.#root, name)
  }

  /**
   * Train an expert after the trainings that began earlier; the last event has its result.
   * @throws as `trainExpert`; InputError `exists` while something else uses the training's folder.
   */
  async *train(request: TrainRequest, signal: AbortSignal): AsyncGenerator<TrainEvent | Waiting, void, void> {
    const either = this.#either(signal)
    const release = claimTraining(trainingDirs(this.#root, request.name), request.name, 'train')
    try {
      yield* this.#turns.run(request.name, either, () => this.#prepareAndTrain(request, either))
    } finally {
      release()
    }
  }

  /** What a training would read and take. Writes nothing. @throws as `previewTraining`. */
  preview(
    request: TrainRequest,
    signal: AbortSignal,
  ): AsyncGenerator<PrepareProgress, TrainingPreview, void> {
    return this.#jobs.run('previewTraining', request, this.#either(signal))
  }

  /**
   * Write the pair to train elsewhere into a folder, after the trainings that began earlier.
   * @throws as `exportPair`; InputError `exists` while something else uses the training's folder.
   */
  async *exportPair(
    request: ExportRequest,
    signal: AbortSignal,
  ): AsyncGenerator<StartEvent | BytesDone | Waiting, PairExport, void> {
    const either = this.#either(signal)
    const { name } = request.training
    const release = claimTraining(trainingDirs(this.#root, name), name, 'export')
    try {
      return yield* this.#turns.run(name, either, () => this.#withReplay('exportPair', request, either))
    } finally {
      release()
    }
  }

  /**
   * Derive the expert that is published from a finished training, and write its file.
   * @throws as `packTraining`.
   */
  pack(
    request: PackRequest,
    signal: AbortSignal,
    onProgress?: (progress: PackProgress) => void,
  ): Promise<PackedTraining> {
    return resultOf(this.#withReplay('pack', request, this.#either(signal)), onProgress)
  }

  /** Attack a finished training with the text that it was trained on. @throws as `auditReleased`. */
  audit(request: AuditRequest, signal: AbortSignal): AsyncGenerator<AuditProgress, KeptReport, void> {
    return this.#jobs.run('audit', request, this.#either(signal))
  }

  async *#prepareAndTrain(
    request: TrainRequest,
    signal: AbortSignal,
  ): AsyncGenerator<TrainEvent, void, void> {
    yield* this.#jobs.run('prepareText', request, signal)
    yield* this.#withReplay('train', request, signal)
  }

  /** Run a job that reads the public text. */
  async *#withReplay<N extends 'train' | 'exportPair' | 'pack'>(
    name: N,
    request: OwnerJobs[N]['request'],
    signal: AbortSignal,
  ): AsyncGenerator<OwnerJobs[N]['progress'], OwnerJobs[N]['result'], void> {
    await this.prepareReplay(signal)
    return yield* this.#jobs.run(name, request, signal)
  }

  #either(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#signal, signal])
  }
}
