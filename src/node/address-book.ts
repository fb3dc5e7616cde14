/** Addresses at which members were reached, kept across restarts: a founder has no invitation that names them. */

import { decodeAddressesFrame } from '../exchange/addresses.ts'
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import type { MemberAddresses } from '../network/mesh.ts'
import type { Catalogue } from '../store/catalogue.ts'

const PREFIX = 'addresses.'

/** @throws InputError `disk-full`, `io`; an address that is lost costs a later dial. */
export async function rememberAddresses(
  catalogue: Catalogue,
  members: readonly MemberAddresses[],
): Promise<void> {
  const changes = members.map((member) => ({
    table: 'settings' as const,
    key: `${PREFIX}${member.peerId}`,
    value: utf8(JSON.stringify(member)),
  }))
  await catalogue.write(changes)
}

export async function rememberedAddresses(catalogue: Catalogue): Promise<MemberAddresses[]> {
  const entries = await catalogue.entries('settings')
  return entries
    .filter(([key]) => key.startsWith(PREFIX))
    .map(([, value]) => decodeAddressesFrame(JSON.parse(fromUtf8(value))))
}
