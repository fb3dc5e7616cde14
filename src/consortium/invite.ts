/**
 * An invitation: one line of text with which an institution finds a consortium and checks that it is the right one. Its
 * only secret is a token that opens the join protocol. Knows nothing about networks.
 */
import { type Digest, fromUtf8, sha256, toHex, utf8 } from '../lib/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../lib/canonical-json.ts'
import { FlexMeshError, FormatError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'

export interface Invite {
  readonly consortium: Digest
  readonly name: string
  /** Multiaddrs of members, with their peer ids. */
  readonly addresses: readonly string[]
  /** 16 random bytes as hex. */
  readonly token: string
  /** Unix seconds. */
  readonly expiresAt: number
}

const PREFIX = 'flexmesh-invite-1:'
const LINE = /flexmesh-invite-1:[A-Za-z0-9_-]+/
const CHECKSUM_HEX = 8
const ID_HEX = 8
export const MAX_ADDRESSES = 8

/** @throws FormatError `bad-field` for a number of addresses that `decodeInvite` would refuse. */
export function encodeInvite(invite: Invite): string {
  const { length } = invite.addresses
  if (length < 1 || length > MAX_ADDRESSES) {
    throw new FormatError(
      'bad-field',
      `invite.addresses: expected 1 to ${MAX_ADDRESSES} addresses, got ${length}`,
    )
  }
  const body = encodeCanonical({
    consortium: invite.consortium,
    name: invite.name,
    addresses: invite.addresses,
    token: invite.token,
    expiresAt: invite.expiresAt,
  })
  return `${PREFIX}${Buffer.from(body).toString('base64url')}${checksum(body)}`
}

/**
 * @param text the invitation, possibly among other text that was copied with it.
 * @throws InputError `usage` for a text without a complete invitation.
 */
export function decodeInvite(text: string): Invite {
  const trimmed = LINE.exec(text)?.[0] ?? text.trim()
  try {
    if (!trimmed.startsWith(PREFIX))
      throw new InputError('usage', 'it does not start with flexmesh-invite-1:')
    const body = new Uint8Array(Buffer.from(trimmed.slice(PREFIX.length, -CHECKSUM_HEX), 'base64url'))
    if (checksum(body) !== trimmed.slice(-CHECKSUM_HEX))
      throw new InputError('usage', 'its checksum is wrong')
    fromUtf8(body)
    const fields = new Fields(decodeCanonical(body), 'invite')
    const invite: Invite = {
      consortium: fields.digest('consortium'),
      name: fields.text('name', 100),
      addresses: fields.list('addresses', MAX_ADDRESSES, (item) => String(item), 1),
      token: fields.text('token', 32, /^[a-f0-9]{32}$/),
      expiresAt: fields.uint('expiresAt'),
    }
    fields.end()
    return invite
  } catch (error) {
    const why = error instanceof FlexMeshError ? error.message : 'it cannot be read'
    throw new InputError(
      'usage',
      `invitation: ${why}; copy the whole line that "flexmesh invite" printed`,
      {},
      error,
    )
  }
}

function checksum(body: Uint8Array): string {
  return toHex(sha256(body)).slice(0, CHECKSUM_HEX)
}

/** First digits of a hash of the token, which name an invitation without giving it away. */
export function inviteId(token: string): string {
  return toHex(sha256(utf8(token))).slice(0, ID_HEX)
}
