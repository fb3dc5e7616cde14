/** Pictures of the paper's tables, for `npm run plots`. */
import { resultsOf, writePicture } from '../bench/picture.ts'
import { type PaperResults, paperPictures } from './pictures.ts'

const FOLDER = new URL('./', import.meta.url)

const results = await resultsOf<PaperResults>(FOLDER, 'paper')
if (results !== undefined) {
  for (const [name, options] of Object.entries(paperPictures(results)))
    await writePicture(FOLDER, `paper-${name}`, options, results)
}
