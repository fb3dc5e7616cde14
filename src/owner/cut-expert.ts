/**
 * `flexmesh publish --rank`: reduces a trained expert to a rank and scores the result. Knows nothing about packages.
 */
import type { PublicModel } from '../checkpoint/public-model.ts'
import { InputError } from '../lib/errors.ts'
import { checkRank, lowRankOf } from '../model/low-rank.ts'
import { expertRank } from '../model/params.ts'
import type { Engine } from '../tensor/engine.ts'
import { ownHeldOut, publicHeldOut } from './held-out.ts'
import type { TrainedExpert } from './release.ts'
import { pairScores } from './score.ts'
import { loadTrained } from './training-folder.ts'

export interface CutExpert extends TrainedExpert {
  /** Share of the squared norm of the difference from the public FFN that the cut keeps, 0 to 1. */
  readonly energyKept: number
}

/**
 * Cut a finished training to `rank` and score it. The training itself is not changed, so it can be cut again at
 * another rank.
 * @throws InputError `not-found`; `usage` for a rank that does not fit the model or is not below the expert's own.
 */
export async function cutTrained(
  { engine, publicModel }: { readonly engine: Engine; readonly publicModel: PublicModel },
  trainingRoot: string,
  name: string,
  rank: number,
  signal: AbortSignal,
): Promise<CutExpert> {
  checkRank(publicModel.config, rank)
  const trained = await loadTrained(publicModel, trainingRoot, name)
  const before = expertRank(trained.expert)
  if (before !== 0 && rank >= before) {
    throw new InputError(
      'usage',
      `${name} was trained at rank ${before}; leave out --rank to publish it at that rank, or give a lower one`,
    )
  }
  const { expert, energyKept } = lowRankOf(trained.expert, publicModel.params, rank)
  const own = await ownHeldOut(publicModel, trainingRoot, name)
  const scores = await pairScores(engine, publicModel, expert, {
    ...(own.length === 0 ? {} : { own }),
    public: await publicHeldOut(publicModel, trainingRoot, signal),
  })
  return { expert, result: { ...trained.result, ...scores }, energyKept }
}
