/** Decides the format of each matrix of a model from the format that the user chose. Does not know names of tensors. */
import type { MatrixFormat } from './matrix-format.ts'

/** What a matrix is for: `factor` is one of the two factors of a low-rank expert, `head` computes the logits. */
export type TensorRole = 'embedding' | 'attention' | 'ffn' | 'factor' | 'head'

/**
 * The format of a matrix with this role in a model served in the format `chosen`. With int4, head and embedding have 8
 * bits: the head alone causes half of the loss of 4 bits, and it is a small part of the weights of a large model. Factors
 * of low-rank experts stay in bf16, because they are a few percent of the bytes. Router rows are always float32.
 */
export function tensorFormat(chosen: MatrixFormat, role: TensorRole): MatrixFormat {
  if (chosen === 'fp32' || chosen === 'bf16') return chosen
  if (role === 'factor') return 'bf16'
  return role === 'head' || role === 'embedding' ? 'int8' : chosen
}
