/** A mixture as serving runs it. The extraction audit asks it for text. */

import type { Gate } from '../../src/model/solved-router.ts'
import type { Params } from '../../src/model/weights.ts'

export interface Audited {
  /** Tensors under the names of a mixture. */
  readonly params: Params
  readonly E: number
  readonly topK: number
  readonly gate?: Gate
}
