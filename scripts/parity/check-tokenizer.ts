/**
 * Compares our tokenizer with the results of Hugging Face's library that scripts/parity/tokenizer_variants.py has
 * written. Prints the texts that are encoded differently and the numbers of texts; exits 1 if one differs.
 * Usage: tsx scripts/parity/check-tokenizer.ts FILE
 */
import { differences, readVariants, variantTokenizer } from './variants.ts'

let texts = 0
let different = 0
for (const variant of await readVariants(process.argv[2] as string)) {
  const found = differences(await variantTokenizer(variant), variant)
  for (const text of found) console.log(`${variant.name}: ${JSON.stringify(text)}`)
  texts += variant.cases.length
  different += found.length
}
console.log(`${texts} texts, ${different} encoded differently`)
process.exitCode = different === 0 ? 0 : 1
