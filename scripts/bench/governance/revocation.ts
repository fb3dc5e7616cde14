/** A quorum revokes a member, which goes on to sign: what do the nodes make of its later packages. */

import { seal } from '../../../src/identity/envelope.ts'
import { createIdentity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { NO_STATEMENT } from '../../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../../src/lib/bytes.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { encodeManifest } from '../../../src/packaging/manifest.ts'
import { tinyManifest } from '../../../test/support/packages.ts'
import { admit, endorse, unixNow, until } from './nodes.ts'

/** Number of statements that the member signs after its last one that counts. */
const LATER = 20

export interface RevocationResult {
  /** Share of the later statements of the member, over all nodes, that no node may use. */
  readonly refusedShare: number
  /** Seconds from the proposal, which more than half of the members endorse, until that is so at every node. */
  readonly seconds: number
}

export async function measureRevocation(nodes: readonly FlexMeshNode[]): Promise<RevocationResult> {
  const [founder] = nodes as [FlexMeshNode]
  const identity = createIdentity(new Uint8Array(32).fill(0x77))
  await admit(nodes, 'Compromised', identity)
  await until(() => nodes.every((node) => node.membership.isMember(identity.peerId)), 60)
  const { digest, tokenizerDigest, name } = founder.charter.publicModel
  const packages: { id: Digest; envelope: Uint8Array; seq: number }[] = []
  for (let seq = 1; seq <= LATER; seq++) {
    const payload = encodeManifest(
      tinyManifest(identity.peerId, {
        consortium: founder.consortium,
        publicModel: { name, digest, tokenizerDigest },
        seq,
        prev: packages.at(-1)?.id ?? NO_STATEMENT,
        issuedAt: unixNow(),
        expiresAt: unixNow() + 3600,
      }),
    )
    packages.push({ id: digestOf(payload), envelope: seal(MEDIA_TYPES.manifest, payload, [identity]), seq })
  }
  const began = performance.now()
  const { proposal } = await founder.revoke('Compromised', 'compromised', 0)
  const most = Math.floor(nodes.length / 2) + 1
  await Promise.all(nodes.slice(1, most + 1).map((node) => endorse(node, proposal.id)))
  await Promise.all(
    nodes.map(async (node) => {
      for (const { envelope } of packages) await node.ingest(envelope)
    }),
  )
  const isRefused = async (node: FlexMeshNode): Promise<number> => {
    let refused = 0
    for (const { id, seq } of packages) {
      const verdict = await node.verdicts.get(id)
      const isUsed = node.accepted.has(id) || verdict?.outcome === 'accepted'
      if (!isUsed && !node.membership.mayPublish(identity.peerId, seq) && verdict !== undefined) refused++
    }
    return refused
  }
  const share = async (): Promise<number> => {
    const counts = await Promise.all(nodes.map(isRefused))
    return counts.reduce((sum, count) => sum + count, 0) / (nodes.length * packages.length)
  }
  await until(async () => (await share()) === 1, 60).catch(() => undefined)
  return { refusedShare: await share(), seconds: (performance.now() - began) / 1000 }
}
