import { afterEach, describe, expect, it } from 'vitest'
import { utf8 } from '../../src/lib/bytes.ts'
import { rememberAddresses, rememberedAddresses } from '../../src/node/address-book.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterEach(cleanUp)

describe('the address book', () => {
  it('skips and logs entries that cannot be decoded, and keeps the others', async () => {
    const catalogue = await Catalogue.open(await folder())
    const good = { peerId: 'good', addresses: ['/ip4/192.0.2.1/tcp/4001'] }
    await rememberAddresses(catalogue, [good, { peerId: 'long', addresses: ['x'.repeat(300)] }])
    await catalogue.put('settings', 'addresses.damaged', utf8('{'))
    const entries: LogEntry[] = []
    const log = new Log((entry) => void entries.push(entry))
    expect(await rememberedAddresses(catalogue, log)).toEqual([good])
    expect(entries.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^the stored addresses of damaged cannot be read/),
      expect.stringMatching(/^the stored addresses of long cannot be read/),
    ])
    await catalogue.close()
  })
})
