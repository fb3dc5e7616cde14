/** Bits per byte of the public model alone and with one expert. Knows no files. */

import type { PublicModel } from '../checkpoint/public-model.ts'
import { createEvaluator, type HeldOutDocument } from '../model/evaluate.ts'
import { type Expert, mixtureWeights, zeroRows } from '../model/params.ts'
import { LEFT_OUT } from '../model/routing-plan.ts'
import type { Engine } from '../tensor/engine.ts'
import type { Score } from './training-folder.ts'

/** Score the public model before and the pair after, on the public text and, if given, on the owner's. */
export async function pairScores(
  engine: Engine,
  model: Pick<PublicModel, 'config' | 'weights' | 'tokenizer'>,
  expert: Expert,
  texts: { readonly own?: readonly HeldOutDocument[]; readonly public: readonly HeldOutDocument[] },
): Promise<{ own?: Score; public: Score }> {
  const weights = mixtureWeights(model.config, model.weights, zeroRows(model.config), [expert])
  const evaluator = createEvaluator(engine, model.config, weights, {
    E: 2,
    topK: 2,
    endOfText: model.tokenizer.endOfText,
  })
  const score = async (documents: readonly HeldOutDocument[]): Promise<Score> => {
    const before = await evaluator.evaluate(documents, { mask: Float32Array.of(0, LEFT_OUT) })
    const after = await evaluator.evaluate(documents, { mask: Float32Array.of(0, 0) })
    return { before: before.bitsPerByte, after: after.bitsPerByte }
  }
  try {
    return {
      ...(texts.own === undefined ? {} : { own: await score(texts.own) }),
      public: await score(texts.public),
    }
  } finally {
    await evaluator.dispose()
  }
}
