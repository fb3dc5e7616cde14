/** Source code: Python from Debian packages, JavaScript and TypeScript from npm packages. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { Extractor } from './document.ts'
import { filesBelow, readText } from './files.ts'

/** Maximum sizes; larger files are tables and generated code. */
const MAX_PYTHON_BYTES = 300_000
const MAX_SCRIPT_BYTES = 200_000
const MIN_SCRIPT_BYTES = 400
/** Maximum length of a line; files with longer ones are generated. */
const MAX_LINE_CHARACTERS = 2000
const BUILT = /\.min\.|\/dist\/|\/test|\.d\.ts$|\/umd\/|\/cjs\/|\/build\/|bundle/

export function pythonOf(packages: readonly string[]): Extractor {
  return function* (folder) {
    for (const name of packages) {
      const root = join(folder(name), 'usr/lib')
      for (const path of filesBelow(root, /\.py$/)) {
        const file = join(root, path)
        if (statSync(file).size <= MAX_PYTHON_BYTES) yield { id: path, text: readText(file) }
      }
    }
  }
}

/** Only hand-written modules, no minified, bundled or declaration files. */
export function scriptsOf(packages: readonly string[]): Extractor {
  return function* (folder) {
    for (const name of packages) {
      const root = folder(name)
      for (const path of filesBelow(root, /\.[mc]?[jt]s$/)) {
        const { size } = statSync(join(root, path))
        if (size < MIN_SCRIPT_BYTES || size > MAX_SCRIPT_BYTES || BUILT.test(`/${path}`)) continue
        const text = readText(join(root, path))
        if (text.split('\n').every((line) => line.length <= MAX_LINE_CHARACTERS))
          yield { id: `${name}/${path}`, text }
      }
    }
  }
}
