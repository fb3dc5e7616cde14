/** Serves one file and reports its address. Forked with the arguments DIR FILE. */
import '../../../src/lib/heap-growth.ts'
import { startExchange } from '../exchange/start-exchange.ts'

const [dir = '', file = ''] = process.argv.slice(2)
const { exchange, blobs } = await startExchange(dir)
const ref = await blobs.putFile(file)
process.send?.({ address: exchange.addresses()[0], ref })
