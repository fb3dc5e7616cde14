/** Builds one mixture from trained pairs, in the ways that the table compares. Of routing, it knows only rows. */
import type { ModelConfig } from '../../src/model/config.ts'
import { lowRankOf } from '../../src/model/low-rank.ts'
import { materialised } from '../../src/model/merged-weight.ts'
import { mixtureWeights } from '../../src/model/params.ts'
import { loadParams, type Params } from '../../src/model/weights.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { expertOf, type Trainables } from '../../src/training/pair.ts'

export interface RowsInit {
  /** Factor of every row and bias; with 0, only a gate routes. */
  readonly scale: number
  /** Whether a learned bias is kept. */
  readonly bias: 'carried' | 'dropped'
  /** Added to every guest's logit. */
  readonly shift: number
  readonly publicRows: readonly Float32Array[]
  /** Rank to which whole FFNs are cut. Experts of low rank are always made whole, which changes no score. */
  readonly svdRank?: number
}

/** The mixture of the public expert, first, and the pairs in the given order. */
export async function composePairs(
  config: ModelConfig,
  publicModel: Params,
  pairs: readonly Trainables[],
  { scale, bias, shift, publicRows, svdRank }: RowsInit,
): Promise<Params> {
  const engine = onnxEngine()
  const experts = pairs.map(async (pair) => {
    const trained = expertOf(config, pair)
    const cut =
      svdRank === undefined ? trained : (await lowRankOf(engine, trained, publicModel, svdRank)).expert
    const ffn = await loadParams(materialised(cut, publicModel).ffn)
    const routerRows = trained.routerRows.map((row) => row.map((x) => scale * x))
    const learned = trained.bias?.map((b) => (bias === 'carried' ? scale * Math.min(0, b) : 0))
    return { ffn, routerRows, bias: learned?.map((b) => b + shift) }
  })
  const scaledPublic = publicRows.map((row) => row.map((x) => scale * x))
  return mixtureWeights(config, publicModel, scaledPublic, await Promise.all(experts))
}
