/** The value of every additive mask. Knows nothing about what is masked. */

/**
 * Added to a logit before a softmax, it makes the probability exactly 0. Finite, because the softmax
 * of a row that holds nothing but -Infinity is NaN.
 */
export const MASKED = -1e30
