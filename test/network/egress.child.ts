/** A node that serves one file of chunks to everybody, with its egress ledger, until it is killed. */
import { BLOB, serveBlob } from '../../src/exchange/blob.ts'
import { NodeEgress } from '../../src/node/egress.ts'
import { BlobStore } from '../../src/store/blob-store.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { egressInit, networkOf } from '../support/egress-nodes.ts'

const [dir = '', bytes = '0'] = process.argv.slice(2)
const blobs = await BlobStore.open(dir)
const digest = await blobs.put(new Uint8Array(Number(bytes)).map((_, i) => i % 251))
const egress = new NodeEgress(egressInit(dir, await Catalogue.open(dir)))
const network = networkOf(1, await egress.start())
network.handle(BLOB, serveBlob({ handlers: { mayRead: () => true }, blobs }))
await network.start()
process.send?.({ address: network.addresses()[0], digest })
