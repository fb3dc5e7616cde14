/** Serves one file and says where. Usage: forked with DIR FILE. */
import { SENDER, startPeer } from './memory-peer.ts'

const [dir = '', file = ''] = process.argv.slice(2)
const { exchange, blobs } = await startPeer(SENDER, dir)
const ref = await blobs.putFile(file)
process.send?.({ address: exchange.addresses()[0], ref })
