/** What a dishonest member might do, for the demo and tests only. */
import { readEnvelope } from '../identity/envelope.ts'
import { type Digest, toBase64 } from '../lib/bytes.ts'
import { encodeCanonical } from '../lib/canonical-json.ts'
import { InputError } from '../lib/errors.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { openManifest } from '../packaging/manifest.ts'
import type { ControlHandler } from '../serving/control.ts'

/** Its last manifest, changed after it was signed, goes into its log and is offered to everyone. */
export function hostileCommands(node: FlexMeshNode): Record<string, ControlHandler> {
  return {
    async *'offer-tampered'() {
      const tip = await node.catalogue.tip(node.identity.peerId)
      const envelope = tip === undefined ? undefined : await node.catalogue.statement(tip.digest)
      if (tip === undefined || envelope === undefined)
        throw new InputError('not-found', 'nothing was published yet')
      await node.offerUnchecked(tampered(envelope, tip))
      return {}
    },
  }
}

/** The next manifest, with another licence and the signature of the last. */
function tampered(envelope: Uint8Array, tip: { seq: number; digest: Digest }): Uint8Array {
  const { manifest } = openManifest(envelope)
  const payload = encodeCanonical({ ...manifest, seq: tip.seq + 1, prev: tip.digest, license: 'CC0-1.0' })
  const { payloadType, signatures } = readEnvelope(envelope)
  return encodeCanonical({
    payload: toBase64(payload),
    payloadType,
    signatures: signatures.map(({ key, sig }) => ({ key, sig: toBase64(sig) })),
  })
}
