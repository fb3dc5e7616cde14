/** Begins to write a file of codes, says so, and waits to be killed. */
import { digestOf } from '../../src/lib/bytes.ts'
import { CodeFiles } from '../../src/store/code-files.ts'

const [dir = ''] = process.argv.slice(2)
const bytes = new Uint8Array(1e6)
const writer = await new CodeFiles(dir).create(digestOf(Uint8Array.of(1)), 'int8-1', [
  { name: 's0', bytes: bytes.length },
  { name: 's1', bytes: bytes.length },
])
await writer.append(bytes)
process.send?.('writing')
