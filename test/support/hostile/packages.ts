/** What a hostile member can do with packages: sign manifests of any files, withdraw them, and deliver files badly. */
import { setTimeout } from 'node:timers/promises'
import type { Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { decode } from 'cborg'
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES, type MediaType } from '../../../src/identity/media-types.ts'
import { type ChainTip, NO_STATEMENT } from '../../../src/identity/statement.ts'
import { type Digest, digestBytes, digestOf, toHex } from '../../../src/lib/bytes.ts'
import type { FileRef } from '../../../src/lib/file-ref.ts'
import type { FlexMeshNode } from '../../../src/node/node.ts'
import { encodeManifest, type Manifest } from '../../../src/packaging/manifest.ts'
import { encodeWithdrawal } from '../../../src/statements/withdrawal.ts'
import { type HostileMember, STATEMENTS } from './member.ts'
import { cborFrame } from './wire.ts'

/** Requests of a hostile member for the attention of a node, one every 200 ms. */
const MAX_ATTEMPTS = 50
const BLOB = '/flexmesh/blob/1.0.0'

/** The log of a hostile member, which offers each new statement to whoever asks. */
export class HostileLog {
  readonly #member: HostileMember
  readonly #template: Manifest
  #seq = 0
  #prev: Digest = NO_STATEMENT

  /** @param template the manifest of an honest package, from which those of this member differ as little as possible */
  constructor(member: HostileMember, template: Manifest) {
    this.#member = member
    this.#template = template
  }

  /** Sign a manifest. @returns the package id. */
  offer(name: string, file: FileRef): Digest {
    const manifest: Manifest = {
      ...this.#template,
      ...this.#next(),
      expert: { ...this.#template.expert, name },
      files: [{ role: 'expert', ...file }],
    }
    return this.#append(MEDIA_TYPES.manifest, encodeManifest(manifest))
  }

  withdraw(ids: readonly Digest[]): Digest {
    const { consortium } = this.#template
    const issuedAt = Math.floor(Date.now() / 1000)
    const withdrawal = {
      ...this.#next(),
      consortium,
      manifests: ids,
      reason: 'owner-request' as const,
      issuedAt,
    }
    return this.#append(MEDIA_TYPES.withdrawal, encodeWithdrawal(withdrawal))
  }

  /** Make an honest node pull this log; insists until the node has all of it. */
  show(node: FlexMeshNode): Promise<void> {
    return showLog(this.#member, { seq: this.#seq, digest: this.#prev }, node)
  }

  #next() {
    return { publisher: this.#member.peer.peerId, seq: this.#seq + 1, prev: this.#prev }
  }

  #append(type: MediaType, payload: Uint8Array): Digest {
    const id = digestOf(payload)
    this.#member.statements.push(seal(type, payload, [this.#member.peer.identity]))
    this.#seq++
    this.#prev = id
    return id
  }
}

/** Make an honest node pull the log of a hostile member that ends with `tip`; insists until the node has all of it. */
export async function showLog(member: HostileMember, tip: ChainTip, node: FlexMeshNode): Promise<void> {
  const { peer } = member
  const log = { publisher: peer.peerId, seq: tip.seq, last: digestBytes(tip.digest), forked: false }
  const isShown = async () => (await node.catalogue.tip(peer.peerId))?.seq === tip.seq
  for (let attempts = 1; !(await isShown()); attempts++) {
    try {
      const connections = peer.node.getConnections(peerIdFromString(node.identity.peerId))
      const open = connections.find(({ status }) => status === 'open')
      const connection = open ?? (await member.connect(node))
      const stream = await connection.newStream(STATEMENTS, { signal: AbortSignal.timeout(1000) })
      // A node that lacks something of what a request names asks in turn. The answer does not matter.
      stream.send(cborFrame({ rosterVersion: 1, governance: new Uint8Array(32), known: [log] }))
    } catch (error) {
      // The node may close the connection, because it has another one with this peer.
      if (attempts === MAX_ATTEMPTS) throw error
    }
    await setTimeout(200)
  }
}

export interface FileRequest {
  readonly kind: 'hashes' | 'chunks'
  readonly digest: Digest
}

/** Answer requests for files. `answer` may send anything or nothing on the stream. */
export function serveFiles(
  { peer }: HostileMember,
  answer: (request: FileRequest, stream: Stream) => void | Promise<void>,
): Promise<void> {
  return peer.serve(BLOB, async (stream) => {
    for await (const part of stream) {
      // A request fits into one piece, and its length into one byte.
      const { kind, digest } = decode(part.subarray().subarray(1)) as {
        kind: FileRequest['kind']
        digest: Uint8Array
      }
      return answer({ kind, digest: `sha256:${toHex(digest)}` }, stream)
    }
  })
}
