/**
 * A quorum revokes a member whose expert every node uses and whose key goes on to sign: when does every node stop using the
 * expert, and what do the nodes make of the later packages of this key.
 */
import { writeFile } from 'node:fs/promises'
import { seal } from '../../../src/identity/envelope.ts'
import type { Identity } from '../../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import type { ChainTip } from '../../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../../src/lib/bytes.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { encodeManifest, openManifest } from '../../../src/packaging/manifest.ts'
import { endorse, newFile, run, until } from './nodes.ts'

/** Number of packages that the key signs after its last statement that counts. */
const LATER = 20
const WORDS = 8000
const MOST_SECONDS = 60

export interface RevocationResult {
  /** Nodes that stay members. */
  readonly nodes: number
  /** Packages of the revoked key, of which one was in use at every node before. */
  readonly packages: number
  /** Share of the packages, over all nodes, that a node does not use and will not: the roster does not cover them. */
  readonly refusedShare: number
  /** Seconds from the proposal, which more than half of the members endorse, until that is so at every node. */
  readonly seconds: number
}

/** Revokes the last node, which is no member afterwards. */
export async function measureRevocation(nodes: readonly FlexMeshNode[]): Promise<RevocationResult> {
  const compromised = nodes.at(-1) as FlexMeshNode
  const others = nodes.slice(0, -1)
  const [founder, ...endorsing] = others as [FlexMeshNode, ...FlexMeshNode[]]
  const { seat } = compromised.membership
  await run(compromised, 'train', { name: 'stolen', data: [await otherText()], steps: 1 })
  const { id } = await run<{ id: Digest }>(compromised, 'publish', { name: 'stolen', statistics: 'none' })
  await until(() => others.every((node) => node.accepted.has(id)), 300)
  const tip = await compromised.catalogue.tip(seat)
  const used = await compromised.catalogue.statement(id)
  if (tip === undefined || used === undefined)
    throw new Error('the package is not in the log of its publisher')
  const later = laterPackages(compromised.identity, used, tip)
  const began = performance.now()
  const { proposal } = await founder.revoke(seat, 'compromised', 0)
  const most = Math.floor(nodes.length / 2) + 1
  await Promise.all(endorsing.slice(0, most).map((node) => endorse(node, proposal.id)))
  await Promise.all(
    others.map(async (node) => {
      for (const { envelope } of later) await node.ingest(envelope)
    }),
  )
  const packages = [{ id, seq: tip.seq }, ...later]
  const refused = (): number => {
    const counts = others.map(
      (node) =>
        packages.filter(({ id, seq }) => !node.accepted.has(id) && !node.membership.mayPublish(seat, seq))
          .length,
    )
    return counts.reduce((sum, count) => sum + count, 0) / (others.length * packages.length)
  }
  await until(() => refused() === 1, MOST_SECONDS).catch(() => undefined)
  const seconds = (performance.now() - began) / 1000
  return { nodes: others.length, packages: packages.length, refusedShare: refused(), seconds }
}

/** A text that no other expert has learned: weights that were withdrawn before would be refused. */
async function otherText(): Promise<string> {
  const random = mulberry32(1)
  const path = await newFile('stolen.txt')
  const words = Array.from({ length: WORDS }, () => Math.floor(random() * 36 ** 3).toString(36))
  await writeFile(path, words.map((word, i) => (i % 100 === 99 ? `${word}\n` : word)).join(' '))
  return path
}

/** Packages that go on with the log of a key, each with the file of a package that the nodes have accepted. */
function laterPackages(identity: Identity, accepted: Uint8Array, tip: ChainTip) {
  const { manifest } = openManifest(accepted)
  const packages: { readonly id: Digest; readonly envelope: Uint8Array; readonly seq: number }[] = []
  for (let seq = tip.seq + 1; seq <= tip.seq + LATER; seq++) {
    const prev = packages.at(-1)?.id ?? tip.digest
    const expert = { ...manifest.expert, name: `stolen-${seq}` }
    const payload = encodeManifest({ ...manifest, expert, seq, prev })
    packages.push({ id: digestOf(payload), envelope: seal(MEDIA_TYPES.manifest, payload, [identity]), seq })
  }
  return packages
}
