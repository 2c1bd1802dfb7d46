// How a cell, its labels and what it needs are put into words.
import { line_of } from "./state.js";
import { probability, said, t, visible } from "./texts.js";

/** What a person has to do about a cell -> the words on its badge. */
export const NEEDS = {
  unclassified: () => t("label it"),
  blast: () => t("check: blast"),
  undecided: () => t("decide"),
  contested: () => t("contested"),
  unverified: () => t("verify"),
  second_reader: () => t("second reader"),
};

/** Returns the name of a line, of a called class or of a finer code. */
export function line_name(code) {
  if (code === "contested") return t("Contested");
  if (code === "unclassified") return t("Unclassified");
  return said(line_of(code)?.name ?? code);
}

/** Returns why a cell has no call; empty if it has one. */
export function reason_text(cell) {
  if (cell.called_class !== "unclassified") return "";
  if (cell.resembles) return t("not classified: like your {code}", { code: cell.resembles });
  return cell.reason === "novel" ? t("not classified: unlike the training cells") : t("not classified: low confidence");
}

/** Returns one of a model's choices with its confidence. */
export const choice_text = ([line, confidence]) => `${line_name(line)} ${probability(confidence)}`;

/** Returns all that is known of a cell in one sentence, for a screen reader. */
export function accessible_name(cell, is_saving) {
  const parts = [t("Counts as {line}", { line: line_name(cell.line) })];
  if (cell.needs) parts.unshift(t("Needs a person: {what}", { what: (NEEDS[cell.needs] ?? (() => cell.needs))() }));
  if (reason_text(cell)) parts.push(reason_text(cell));
  if (cell.choices.length)
    parts.push(t("model: {choices}", { choices: cell.choices.slice(0, 2).map(choice_text).join(", ") }));
  parts.push(
    cell.analyser_code ? t("analyser: {code}", { code: visible(cell.analyser_code) }) : t("no code of the analyser"),
  );
  for (const { by, label } of cell.labels)
    parts.push(t("{who} labelled it {label}", { who: visible(by), label: line_name(label) }));
  if (cell.n_comments) parts.push(t("comments: {n}", { n: cell.n_comments }));
  if (is_saving) parts.push(t("being saved"));
  return `${parts.join("; ")}.`;
}
