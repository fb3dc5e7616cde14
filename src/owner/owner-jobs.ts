/**
 * The long computations of an owner, as jobs: training, exporting a pair, packing for publication, and preparing and
 * counting the public text. Each loads its code when it first runs, so a process that only dispatches jobs loads no tensor
 * library.
 */

import type { DirectoryOptions } from '../checkpoint/huggingface-directory.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { PrepareProgress } from '../data/prepare-progress.ts'
import type { JobHandlers } from '../lib/jobs.ts'
import { reporting } from '../lib/reporting.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { SubsampledGaussian } from '../privacy/accountant.ts'
import type { KeptReport } from '../privacy/audit-report.ts'
import type { Engine } from '../tensor/engine.ts'
import type { AuditProgress, AuditRequest } from './audit-training.ts'
import type { PairExport } from './export-pair.ts'
import type { PackedTraining, PackProgress, PackRequest } from './pack-training.ts'
import type { TrainingPreview } from './preview-training.ts'
import { openReplay } from './replay.ts'
import type { PairRequest, StartEvent, TrainEvent, TrainRequest } from './train-expert.ts'

/** What these jobs work with. */
export interface OwnerWorkplace {
  readonly engine: Engine
  readonly publicModel: PublicModel
  /** Folder of the trainings. */
  readonly training: string
}

export interface ExportRequest extends Pick<DirectoryOptions, 'shardBytes'> {
  readonly training: PairRequest
  readonly directory: string
}

/** Bytes written so far, and bytes in all. */
export interface BytesDone {
  readonly stage: 'bytes'
  readonly done: number
  readonly total: number
}

export type OwnerJobs = {
  /** Prepare the replay text, if no earlier call did. */
  readonly prepareReplay: { readonly request: null; readonly progress: never; readonly result: null }
  /** Compute a tighter epsilon than that of the account. */
  readonly tightEpsilon: {
    readonly request: { readonly mechanisms: readonly SubsampledGaussian[]; readonly delta: number }
    readonly progress: never
    readonly result: number
  }
  readonly publicStatistics: {
    readonly request: null
    readonly progress: never
    readonly result: RouterStatistics
  }
  /** Prepare the text of a training, if no earlier run did. */
  readonly prepareText: {
    readonly request: TrainRequest
    readonly progress: PrepareProgress
    readonly result: null
  }
  /** Find out what a training would read and take. Writes nothing. */
  readonly previewTraining: {
    readonly request: TrainRequest
    readonly progress: PrepareProgress
    readonly result: TrainingPreview
  }
  readonly train: { readonly request: TrainRequest; readonly progress: TrainEvent; readonly result: null }
  readonly exportPair: {
    readonly request: ExportRequest
    readonly progress: StartEvent | BytesDone
    readonly result: PairExport
  }
  /** Derive the expert that is published from a finished training, and write its file. */
  readonly pack: {
    readonly request: PackRequest
    readonly progress: PackProgress
    readonly result: PackedTraining
  }
  /** Attack a finished training as `train` released it. */
  readonly audit: {
    readonly request: AuditRequest
    readonly progress: AuditProgress
    readonly result: KeptReport
  }
}

export const OWNER_JOBS: JobHandlers<OwnerJobs, OwnerWorkplace> = {
  async *prepareReplay({ publicModel, training }, _, signal): AsyncGenerator<never, null, void> {
    await (await openReplay(publicModel, training, signal)).close()
    return null
  },
  async *tightEpsilon(_, { mechanisms, delta }): AsyncGenerator<never, number, void> {
    const { tightEpsilon } = await import('../privacy/loss-distribution.ts')
    return tightEpsilon(mechanisms, delta)
  },
  async *publicStatistics(
    { publicModel, training },
    _,
    signal,
  ): AsyncGenerator<never, RouterStatistics, void> {
    const { publicStatistics } = await import('./statistics.ts')
    return publicStatistics(publicModel, training, signal)
  },
  async *prepareText(
    { engine, publicModel, training },
    request,
    signal,
  ): AsyncGenerator<PrepareProgress, null, void> {
    const { prepareText } = await import('./training-text.ts')
    yield* prepareText(engine, publicModel, training, request, signal)
    return null
  },
  async *previewTraining(
    { publicModel, training },
    request,
    signal,
  ): AsyncGenerator<PrepareProgress, TrainingPreview, void> {
    const { previewTraining } = await import('./preview-training.ts')
    return yield* reporting((report) => previewTraining(publicModel, training, request, signal, report))
  },
  async *train({ engine, publicModel, training }, request, signal): AsyncGenerator<TrainEvent, null, void> {
    const { trainExpert } = await import('./train-expert.ts')
    yield* trainExpert(engine, publicModel, training, request, signal)
    return null
  },
  async *exportPair(workplace, request, signal): AsyncGenerator<StartEvent | BytesDone, PairExport, void> {
    const { exportPair } = await import('./export-pair.ts')
    const { engine, publicModel, training } = workplace
    const { shardBytes } = request
    return yield* reporting<StartEvent | BytesDone, PairExport>((report) =>
      exportPair(engine, publicModel, training, request.training, request.directory, {
        signal,
        ...(shardBytes === undefined ? {} : { shardBytes }),
        onStart: report,
        onProgress: (done, total) => report({ stage: 'bytes', done, total }),
      }),
    )
  },
  async *pack(workplace, request, signal): AsyncGenerator<PackProgress, PackedTraining, void> {
    const { packTraining } = await import('./pack-training.ts')
    return yield* reporting((report) => packTraining(workplace, request, signal, report))
  },
  async *audit(workplace, request, signal): AsyncGenerator<AuditProgress, KeptReport, void> {
    const { auditReleased } = await import('./audit-training.ts')
    return yield* reporting((report) => auditReleased(workplace, request, signal, report))
  },
}
