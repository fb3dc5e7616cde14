/** `flexmesh publish --rank`: a trained expert cut to a rank, and measured again as what it is now. */
import { InputError } from '../lib/errors.ts'
import { checkRank, lowRankOf } from '../model/low-rank.ts'
import { type Expert, expertRank } from '../model/params.ts'
import type { NodeState } from '../node/node-state.ts'
import { pairScores } from './score.ts'
import { loadTrained, ownHeldOut, publicHeldOut, type TrainResult } from './training-folder.ts'

export interface CutExpert {
  readonly expert: Expert
  readonly result: TrainResult
  /** Share of the squared norm of the difference from the public FFN that is left: 0 to 1. */
  readonly energyKept: number
}

/**
 * The training stays as it is, so that it can be cut again at another rank.
 * @throws InputError `not-found`, and `usage` for a rank that is none, or not below the expert's own.
 */
export async function cutTrained(
  { engine, publicModel }: Pick<NodeState, 'engine' | 'publicModel'>,
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
      `${name} was trained at rank ${before}; leave out --rank to publish it so, or give a lower one`,
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
