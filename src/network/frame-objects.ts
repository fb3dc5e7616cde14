/**
 * What the frames of an answer are for the egress ledger: the objects that the protocol names, or a refusal. Knows nothing
 * about streams.
 */
import type { Frame, SentObject, StreamAccount } from './egress.ts'
import type { ProtocolRow } from './protocol.ts'

/** Number of small frames of an answer after which one waits until the egress ledger has those before it. */
const KEPT_FRAMES = 32
/** Frames that answer with an error instead. */
export const REFUSAL: SentObject = { kind: 'refusal', isForAnybody: true }

/**
 * @returns tells the account of a stream which object the next frame of an answer is. The promise, if there is one, must
 * resolve before the last piece of the frame is sent: then the other side gets nothing large, and no first frame of an
 * answer, that a killed process would lose from the egress ledger.
 */
export function frameMarker(
  account: StreamAccount,
  { id, sends = () => () => ({ kind: id }) }: ProtocolRow,
  request: unknown,
): (frame: unknown, pieces: Frame['pieces']) => Promise<void> | undefined {
  let objectAt: ReturnType<typeof sends> | undefined
  let index = 0
  return (frame, pieces) => {
    if (refusal(frame) !== undefined) {
      account.begin(REFUSAL, { pieces, protocol: id })
      return undefined
    }
    // The handler has accepted the request when its first frame is here.
    objectAt ??= sends(request)
    account.begin(objectAt(index++, frame), { pieces, payload: payloadOf(frame) })
    return pieces.length > 1 || index % KEPT_FRAMES === 1 ? account.kept() : undefined
  }
}

/** The bytes of a frame `{bytes}`, which are the object itself. */
function payloadOf(frame: unknown): Uint8Array | undefined {
  const bytes = typeof frame === 'object' && frame !== null && 'bytes' in frame ? frame.bytes : undefined
  return bytes instanceof Uint8Array ? bytes : undefined
}

/** The code of a frame that refuses. Text that is not a code becomes `protocol`, because it reaches logs. */
export function refusal(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('error' in value)) return undefined
  const { error } = value
  return typeof error === 'string' && /^[a-z-]{1,40}$/.test(error) ? error : 'protocol'
}
