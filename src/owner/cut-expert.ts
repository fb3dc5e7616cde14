/**
 * `flexmesh publish` of an expert that differs from the one that `train` calibrated and scored: reduced to a rank,
 * trained elsewhere, or without its router statistics. Calibrates and scores it as it is published. Knows nothing about
 * packages.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { InputError } from '../lib/errors.ts'
import { checkRank, lowRankOf } from '../model/low-rank.ts'
import { expertRank } from '../model/params.ts'
import { loadParams } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'
import { calibrate } from './calibrate.ts'
import { ownHeldOut, publicHeldOut } from './held-out.ts'
import type { TrainedExpert } from './release.ts'
import { publicStatistics } from './statistics.ts'
import { loadConstantRows, loadTrained, trainingDirs } from './training-folder.ts'

interface Parts {
  readonly engine: Engine
  readonly publicModel: PublicModel
}

export interface CutExpert extends TrainedExpert {
  /** Share of the squared norm of the difference from the public FFN that the cut keeps, 0 to 1. */
  readonly energyKept: number
}

/**
 * Cut a finished training to `rank`, calibrate its release again, since a cut changes what it does, and score it. The
 * training itself is not changed, so it can be cut again at another rank.
 * @param withStatistics whether its router statistics are published; without them, nodes route it by rows
 * @throws InputError `not-found`; `usage` for a rank that does not fit the model or is not below the expert's own.
 */
export async function cutTrained(
  parts: Parts,
  trainingRoot: string,
  name: string,
  rank: number,
  withStatistics: boolean,
  signal: AbortSignal,
): Promise<CutExpert> {
  const { engine, publicModel } = parts
  checkRank(publicModel.config, rank)
  const trained = await loadTrained(publicModel, trainingRoot, name)
  const before = expertRank(trained.expert)
  if (before !== 0 && rank >= before) {
    throw new InputError(
      'usage',
      `${name} was trained at rank ${before}; leave out --rank to publish it at that rank, or give a lower one`,
    )
  }
  const { expert, energyKept } = await lowRankOf(engine, trained.expert, publicModel.weights, rank, signal)
  const published = withStatistics ? expert : { ...expert, statistics: undefined }
  const { result } = trained
  return { ...(await recalibrate(parts, trainingRoot, { expert: published, result }, signal)), energyKept }
}

/**
 * A finished training as it is published whole, calibrated and scored for that; see `needsCalibration`.
 * @param withStatistics whether its router statistics are published; without them, nodes route it by rows
 * @throws InputError `not-found`.
 */
export async function wholeTrained(
  parts: Parts,
  trainingRoot: string,
  name: string,
  withStatistics: boolean,
  signal: AbortSignal,
): Promise<TrainedExpert> {
  const { expert, result } = await loadTrained(parts.publicModel, trainingRoot, name)
  const published = withStatistics ? expert : { ...expert, statistics: undefined }
  const calibrated = await recalibrate(parts, trainingRoot, { expert: published, result }, signal)
  // The result is sent to another thread as values.
  const ffn = await loadParams(calibrated.expert.ffn, signal)
  return { ...calibrated, expert: { ...calibrated.expert, ffn } }
}

/** Calibrate an expert and score it. */
async function recalibrate(
  { engine, publicModel }: Parts,
  trainingRoot: string,
  trained: TrainedExpert,
  signal: AbortSignal,
): Promise<TrainedExpert> {
  const { calibration: _, ...result } = trained.result
  const { name } = result
  const own = await ownHeldOut(publicModel, trainingRoot, name)
  const texts = {
    ...(own.length === 0 ? {} : { own }),
    public: await publicHeldOut(publicModel, trainingRoot, signal),
  }
  const { expert, calibration, score } = await calibrate(
    {
      engine,
      model: publicModel,
      constantRows: await loadConstantRows(trainingDirs(trainingRoot, name), publicModel.config),
      publicStatistics: () => publicStatistics(publicModel, trainingRoot, signal),
      texts,
      signal,
    },
    trained.expert,
  )
  return {
    expert,
    result: {
      ...result,
      ...score,
      ...(calibration && { calibration }),
    },
  }
}
