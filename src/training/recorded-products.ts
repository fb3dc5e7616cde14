/**
 * Matrix products that record, while gradients are computed, what the gradient of each weight is made of: the inputs of
 * the product and the gradients of its outputs. From these, `unit-gradients.ts` computes norms and clipped sums of the
 * gradients of units without a second backward pass (book-keeping; Bu et al. 2022, arXiv 2210.00038). Knows nothing
 * about units.
 */
import { clone, customGrad, keep, matMul, type Tensor, zerosLike } from '@tensorflow/tfjs'
import { type Products, plainProducts, type Weights } from '../model/layers.ts'
import { gatedActivation } from '../tensor/fused.ts'

/** A product x W' of the backward pass. The gradient of W is the sum over rows of `gradients` times `inputs`. */
export interface ProductRecord {
  /** Name of the weight. */
  readonly name: string
  /** x, [N, I]. A weight that reads the same tensor as another one has the same object here. */
  readonly inputs: Tensor
  /** Gradient of the loss with respect to the product, [N, O]. */
  readonly gradients: Tensor
}

type Save = (tensors: Tensor[]) => void

/**
 * Products that add a record for every weight in `recorded`, when gradients are computed. The gradient of these weights
 * themselves is zero. The caller disposes the tensors of the records.
 */
export function recordingProducts(
  weights: Weights,
  recorded: ReadonlySet<string>,
  records: ProductRecord[],
): Products {
  const plain = plainProducts(weights)
  /** Kept inputs by the tensor of the forward pass. */
  const kept = new Map<Tensor, Tensor>()
  const inputsOf = (x: Tensor, saved: Tensor): Tensor => {
    const known = kept.get(x)
    if (known !== undefined) return known
    const copy = keep(clone(saved))
    kept.set(x, copy)
    return copy
  }
  const linear = (x: Tensor, name: string): Tensor => {
    if (!recorded.has(name)) return plain.linear(x, name)
    const op = customGrad((...args) => {
      const [input, weight, save] = args as unknown[] as [Tensor, Tensor, Save]
      save([input, weight])
      const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor[] => {
        const [x_, w_] = saved as [Tensor, Tensor]
        records.push({ name, inputs: inputsOf(x, x_), gradients: keep(clone(dy)) })
        return [matMul(dy as never, w_ as never), zerosLike(w_)]
      }
      return { value: matMul(input as never, weight as never, false, true) as Tensor, gradFunc }
    })
    return op(x, weights(name))
  }
  return {
    linear,
    gated: (gate, up, name) =>
      recorded.has(name) ? linear(gatedActivation(gate, up), name) : plain.gated(gate, up, name),
  }
}
