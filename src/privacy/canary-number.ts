/** How many canaries a text gets. Loads nothing, so that the help of a command can name the numbers. */

/** Tokens of a canary. */
export const CANARY_TOKENS = 64
/** More canaries certify more (500: an epsilon of up to 4.4), but take time and room in the text. */
export const MOST_CANARIES = 500
/** With fewer canaries, an audit could refute only an epsilon below 2.8. */
export const LEAST_CANARIES = 100
/** Maximum share of the training tokens that canaries may be without the owner's asking. */
const UNASKED_SHARE = 0.005
/** Weights of a public model from which writing hundreds of canaries, a forward pass for each token, takes minutes. */
const UNASKED_WEIGHTS = 1e8
/**
 * Number of canaries for a training whose owner did not choose one: as many as cost little, or none.
 * @param tokens number of tokens of the training text
 * @param weights number of weights of the public model
 */
export function defaultCanaries(tokens: number, weights: number): number {
  const expectedTokens = CANARY_TOKENS / 2
  const room = Math.floor((UNASKED_SHARE * tokens) / expectedTokens)
  return weights > UNASKED_WEIGHTS || room < LEAST_CANARIES ? 0 : Math.min(MOST_CANARIES, room)
}
