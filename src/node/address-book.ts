/** Addresses at which members were reached, kept across restarts: a founder has no invitation that names them. */

import { decodeAddressesFrame } from '../exchange/addresses.ts'
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import type { MemberAddresses } from '../network/address-table.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { type Log, SILENT } from '../telemetry/log.ts'

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

/**
 * Skips and logs an entry that does not decode, because a node must start without the addresses of one member. The
 * next sync with another member overwrites the entry.
 */
export async function rememberedAddresses(
  catalogue: Catalogue,
  log: Log = SILENT,
): Promise<MemberAddresses[]> {
  const entries = await catalogue.entries('settings')
  return entries
    .filter(([key]) => key.startsWith(PREFIX))
    .flatMap(([key, value]) => {
      try {
        return [decodeAddressesFrame(JSON.parse(fromUtf8(value)))]
      } catch (error) {
        log.warn(`the stored addresses of ${key.slice(PREFIX.length)} cannot be read and are ignored`, error)
        return []
      }
    })
}
