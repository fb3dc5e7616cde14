/**
 * The table of all stream protocols, in the order of the table in protocols/package-exchange. A new protocol is a
 * file that exports its row, its codec, `serve` and `ask`, and one line here.
 */
import type { PeerIdString } from '../identity/keys.ts'
import type { Answer, Network } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'
import type { StatementsRequest } from '../statements/log-answers.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { ADDRESSES, serveAddresses } from './addresses.ts'
import { BLOB, serveBlob } from './blob.ts'
import { CHECKPOINTS, serveCheckpoints } from './checkpoints.ts'
import type { ExchangeHandlers } from './handlers.ts'
import { JOIN, serveJoin } from './join.ts'
import { STATEMENTS, serveStatements } from './statements.ts'

export interface ServeInit {
  readonly handlers: ExchangeHandlers
  readonly blobs: BlobStore
  readonly network: Network
  /** Pull statements soon from a member, if this node still lacks then what its request has named. */
  readonly pullFrom: (peer: PeerIdString, request: StatementsRequest) => void
}

export interface StreamProtocol {
  readonly row: ProtocolRow
  readonly serve: (init: ServeInit) => Answer
}

export const PROTOCOLS: readonly StreamProtocol[] = [
  { row: JOIN, serve: serveJoin },
  { row: STATEMENTS, serve: serveStatements },
  { row: ADDRESSES, serve: serveAddresses },
  { row: BLOB, serve: serveBlob },
  { row: CHECKPOINTS, serve: serveCheckpoints },
]
