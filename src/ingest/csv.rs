//! Samples in CSV: `timestamp,value`, `timestamp,metric,value`, label columns, or one metric a column.
//!
//! | header | a row is |
//! |---|---|
//! | time and `value` | one sample; its metric is the column `metric` (PromQL notation) or the file's stem; other columns are labels |
//! | time, no `value` | one sample for each column, named by the header; empty cells are no samples; a column that holds text in the first row is a label of all |
//! | none | `time,value` or `time,metric,value`; anything else is ambiguous |

use std::collections::{BTreeSet, VecDeque};

use crate::model::{Labels, METRIC_NAME, Sample};

use super::error::{LayoutError, RowError, excerpt};
use super::fields::{COLUMNS_MAX, Fields};
use super::format::to_identifier;
use super::moment::parse_moment;
use super::series::parse_series;
use super::series_cache::{SeriesCache, push_part};

/// Names of a time column, the likelier ones first; where a header has several, the rest are not read.
const TIME_COLUMNS: [&str; 7] = ["timestamp", "time", "ts", "at", "datetime", "date", "unix_timestamp"];
const VALUE_COLUMN: &str = "value";
const METRIC_COLUMNS: [&str; 2] = ["metric", METRIC_NAME];

/// Why a line gives no samples.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Only this row.
    Row(RowError),
    /// The whole file.
    Layout(LayoutError),
}

impl From<RowError> for Refusal {
    fn from(cause: RowError) -> Self {
        Self::Row(cause)
    }
}

/// Reads the rows of one file.
pub(crate) struct CsvReader {
    /// The metric of rows that name none.
    metric: String,
    layout: Option<Layout>,
    fields: Fields,
    cache: SeriesCache,
    /// Reused: what tells the row's series, as one text.
    key: Vec<u8>,
}

impl CsvReader {
    pub(crate) fn new(metric: String) -> Self {
        Self {
            metric,
            layout: None,
            fields: Fields::default(),
            cache: SeriesCache::default(),
            key: Vec::new(),
        }
    }

    /// Appends the samples of a row, all or none.
    pub(crate) fn read(&mut self, line: &str, samples: &mut VecDeque<Sample>) -> Result<(), Refusal> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let split = self.fields.split(line);
        if self.layout.is_none() {
            split.map_err(|cause| Refusal::Layout(LayoutError::Row(Box::new(cause))))?;
            let first: Vec<&str> = self.fields.iter(line).collect();
            let (layout, is_header) = Layout::of(&first, &self.metric).map_err(Refusal::Layout)?;
            self.layout = Some(layout);
            if is_header {
                return Ok(());
            }
        } else {
            split?;
        }
        let Some(layout) = &mut self.layout else { return Ok(()) };
        let row = Row { line, fields: &self.fields };
        let expected = layout.columns();
        if row.fields.len() != expected {
            return Err(RowError::Columns { expected, found: row.fields.len() }.into());
        }
        match layout {
            Layout::Long(long) => {
                samples.push_back(long.sample(&row, &self.metric, &mut self.cache, &mut self.key)?);
            }
            Layout::Wide(wide) => {
                let before = samples.len();
                if let Err(cause) = wide.samples(&row, &mut self.cache, &mut self.key, samples) {
                    samples.truncate(before);
                    return Err(cause.into());
                }
            }
        }
        Ok(())
    }
}

struct Row<'a> {
    line: &'a str,
    fields: &'a Fields,
}

impl Row<'_> {
    fn field(&self, column: usize) -> &str {
        self.fields.get(self.line, column)
    }
}

enum Layout {
    Long(Long),
    Wide(Wide),
}

impl Layout {
    /// What the first row says, and whether it is a header.
    fn of(first: &[&str], metric: &str) -> Result<(Self, bool), LayoutError> {
        if first.len() > COLUMNS_MAX {
            return Err(LayoutError::TooManyColumns(first.len()));
        }
        let words: Vec<String> = first.iter().map(|name| name.to_ascii_lowercase()).collect();
        let column_of = |word: &&str| words.iter().position(|name| name == word);
        if let Some(time) = TIME_COLUMNS.iter().find_map(column_of) {
            let value = column_of(&VALUE_COLUMN);
            let metrics: Vec<usize> = METRIC_COLUMNS.iter().filter_map(column_of).collect();
            let layout = match (value, metrics.as_slice()) {
                (_, [_, second, ..]) => return Err(LayoutError::Twice(first[*second].to_owned())),
                (Some(value), named) => {
                    Self::Long(Long::of(first, time, value, named.first().copied(), metric)?)
                }
                (None, [_]) => return Err(LayoutError::NoValue),
                (None, []) => Self::Wide(Wide::of(first, &words, time)?),
            };
            return Ok((layout, true));
        }
        if parse_moment(first[0]).is_err() {
            return Err(LayoutError::NoTime(excerpt(first[0])));
        }
        let is_number = |column: usize| first.get(column).is_some_and(|text| text.parse::<f64>().is_ok());
        let headless = match first.len() {
            2 if is_number(1) => Long::of(first, 0, 1, None, metric)?,
            3 if is_number(2) && !is_number(1) => Long::of(first, 0, 2, Some(1), metric)?,
            columns => return Err(LayoutError::Ambiguous(columns)),
        };
        Ok((Self::Long(headless), false))
    }

    fn columns(&self) -> usize {
        match self {
            Self::Long(long) => long.columns,
            Self::Wide(wide) => wide.columns,
        }
    }
}

/// One sample a row.
struct Long {
    columns: usize,
    time: usize,
    value: usize,
    metric: Option<usize>,
    labels: Vec<(usize, String)>,
    /// The series of all rows, where no column tells it.
    only: Option<Labels>,
}

impl Long {
    fn of(
        header: &[&str],
        time: usize,
        value: usize,
        metric: Option<usize>,
        stem: &str,
    ) -> Result<Self, LayoutError> {
        let mut labels = Vec::new();
        for (column, name) in header.iter().enumerate() {
            if column == time || column == value || Some(column) == metric {
                continue;
            }
            if name.is_empty() {
                return Err(LayoutError::NoName(column + 1));
            }
            labels.push((column, to_identifier(name, "")));
        }
        // Any values do: this refuses names that repeat or break a limit once, instead of on each row.
        Labels::new(labels.iter().map(|(_, name)| (name.as_str(), "value")))?;
        let only = (metric.is_none() && labels.is_empty()).then(|| Labels::new([(METRIC_NAME, stem)]));
        Ok(Self { columns: header.len(), time, value, metric, labels, only: only.transpose()? })
    }

    fn sample(
        &self,
        row: &Row<'_>,
        stem: &str,
        cache: &mut SeriesCache,
        key: &mut Vec<u8>,
    ) -> Result<Sample, RowError> {
        let at = parse_moment(row.field(self.time))?;
        let value = number(row.field(self.value))?;
        let series = match (&self.only, self.metric) {
            (Some(series), _) => series.clone(),
            (None, Some(metric)) if self.labels.is_empty() => {
                let text = row.field(metric);
                cache.series(text.as_bytes(), || named_series(text))?
            }
            (None, metric) => {
                key.clear();
                for column in metric.iter().chain(self.labels.iter().map(|(column, _)| column)) {
                    push_part(key, row.field(*column));
                }
                cache.series(key, || self.series(row, stem))?
            }
        };
        Ok(Sample { series, at, value })
    }

    fn series(&self, row: &Row<'_>, stem: &str) -> Result<Labels, RowError> {
        let base = match self.metric {
            Some(metric) => named_series(row.field(metric))?,
            None => Labels::new([(METRIC_NAME, stem)])?,
        };
        let columns = self.labels.iter().map(|(column, name)| (name.as_str(), row.field(*column)));
        Ok(Labels::new(base.iter().chain(columns))?)
    }
}

/// One metric a column.
struct Wide {
    columns: usize,
    time: usize,
    metrics: Vec<MetricColumn>,
    labels: Vec<(usize, String)>,
    /// Whether a row has told which columns are labels.
    decided: bool,
}

struct MetricColumn {
    column: usize,
    name: String,
    /// The metric without further labels.
    bare: Labels,
}

impl Wide {
    fn of(header: &[&str], lowercase: &[String], time: usize) -> Result<Self, LayoutError> {
        let mut metrics: Vec<MetricColumn> = Vec::new();
        let mut seen = BTreeSet::new();
        for (column, name) in header.iter().enumerate() {
            if TIME_COLUMNS.contains(&lowercase[column].as_str()) {
                continue;
            }
            if name.is_empty() {
                return Err(LayoutError::NoName(column + 1));
            }
            let name = to_identifier(name, ":");
            let bare = Labels::new([(METRIC_NAME, name.as_str())])?;
            if !seen.insert(name.clone()) {
                return Err(LayoutError::Twice(name));
            }
            metrics.push(MetricColumn { column, name, bare });
        }
        if metrics.is_empty() {
            return Err(LayoutError::NoValue);
        }
        Ok(Self { columns: header.len(), time, metrics, labels: Vec::new(), decided: false })
    }

    fn samples(
        &mut self,
        row: &Row<'_>,
        cache: &mut SeriesCache,
        key: &mut Vec<u8>,
        samples: &mut VecDeque<Sample>,
    ) -> Result<(), RowError> {
        let at = parse_moment(row.field(self.time))?;
        if !self.decided {
            self.decide(row);
        }
        key.clear();
        for (column, _) in &self.labels {
            push_part(key, row.field(*column));
        }
        let labels_end = key.len();
        for metric in &self.metrics {
            let text = row.field(metric.column);
            if text.is_empty() {
                continue;
            }
            let value = text
                .parse()
                .map_err(|_| RowError::Cell { column: excerpt(&metric.name), text: excerpt(text) })?;
            let series = if self.labels.is_empty() {
                metric.bare.clone()
            } else {
                key.truncate(labels_end);
                key.extend_from_slice(&metric.column.to_le_bytes());
                cache.series(key, || {
                    let labels = self.labels.iter().map(|(column, name)| (name.as_str(), row.field(*column)));
                    Labels::new(metric.bare.iter().chain(labels))
                })?
            };
            samples.push_back(Sample { series, at, value });
        }
        Ok(())
    }

    /// Columns with text in them are labels.
    fn decide(&mut self, row: &Row<'_>) {
        let is_text = |metric: &MetricColumn| {
            let text = row.field(metric.column);
            !text.is_empty() && text.parse::<f64>().is_err()
        };
        self.labels = self
            .metrics
            .extract_if(.., |metric| is_text(metric))
            .map(|metric| (metric.column, to_identifier(&metric.name, "")))
            .collect();
        self.decided = true;
    }
}

fn named_series(text: &str) -> Result<Labels, RowError> {
    if text.is_empty() {
        return Err(RowError::NoMetric);
    }
    Ok(parse_series(text)?)
}

fn number(text: &str) -> Result<f64, RowError> {
    if text.is_empty() {
        return Err(RowError::NoValue);
    }
    text.parse().map_err(|_| RowError::Value(excerpt(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "stem";

    fn read(text: &str) -> (Vec<(String, i64, f64)>, Vec<String>) {
        let mut reader = CsvReader::new(STEM.into());
        let (mut samples, mut refusals) = (VecDeque::new(), Vec::new());
        for line in text.lines() {
            match reader.read(line, &mut samples) {
                Ok(()) => {}
                Err(Refusal::Row(cause)) => refusals.push(cause.to_string()),
                Err(Refusal::Layout(cause)) => {
                    refusals.push(format!("layout: {cause}"));
                    break;
                }
            }
        }
        let samples = samples.into_iter().map(|s| (s.series.to_string(), s.at.as_millis(), s.value));
        (samples.collect(), refusals)
    }

    fn check(text: &str, samples: &[(&str, i64, f64)], refusals: &[&str]) {
        let (found, refused) = read(text);
        let expected: Vec<_> =
            samples.iter().map(|(series, at, value)| ((*series).to_owned(), *at, *value)).collect();
        assert_eq!((found, refused), (expected, refusals.iter().map(|&r| r.to_owned()).collect()), "{text}");
    }

    #[test]
    fn time_and_value_are_of_the_files_own_metric() {
        let samples = [("stem", 1_000, 2.5), ("stem", 2_000, -3.0)];
        check("timestamp,value\n1,2.5\n\n2,-3", &samples, &[]);
        check("value , Time\n2.5, 1970-01-01T00:00:01Z\n-3 ,1970-01-01 00:00:02", &samples, &[]);
        check("1,2.5\n2,-3", &samples, &[]);
        check("\"timestamp\",\"value\"\n\"1\",\"2.5\"\n2,\"-3\"", &samples, &[]);
    }

    #[test]
    fn a_metric_column_is_promql_notation() {
        let samples = [("cpu{host=\"a,1\",zone=\"b\"}", 1_000, 1.0), ("up", 1_000, 0.0)];
        let rows = "1,\"cpu{zone=\"\"b\"\",host=\"\"a,1\"\"}\",1\n1,up,0";
        check(&format!("timestamp,metric,value\n{rows}"), &samples, &[]);
        check(&format!("timestamp,__name__,value\n{rows}"), &samples, &[]);
        check(rows, &samples, &[]);
    }

    #[test]
    fn other_columns_are_labels() {
        check(
            "timestamp,value,label\n1,35.03,0\n2,36,1\n3,37,",
            &[("stem{label=\"0\"}", 1_000, 35.03), ("stem{label=\"1\"}", 2_000, 36.0), ("stem", 3_000, 37.0)],
            &[],
        );
        check(
            "Host Name,metric,timestamp,value\na,up,1,1\nb,\"up{job=\"\"x\"\"}\",1,0",
            &[("up{Host_Name=\"a\"}", 1_000, 1.0), ("up{Host_Name=\"b\",job=\"x\"}", 1_000, 0.0)],
            &[],
        );
        check(
            "a,b,timestamp,value\nx,,1,1\n,x,1,2",
            &[("stem{a=\"x\"}", 1_000, 1.0), ("stem{b=\"x\"}", 1_000, 2.0)],
            &[],
        );
    }

    #[test]
    fn without_a_value_column_each_column_is_a_metric() {
        check(
            "time,carts_cpu,carts-db_cpu\n1,100.5,3e1\n2,,NaN0\n3,,7",
            &[("carts_cpu", 1_000, 100.5), ("carts_db_cpu", 1_000, 30.0), ("carts_db_cpu", 3_000, 7.0)],
            &["`NaN0` in column `carts_db_cpu` is not a number"],
        );
        check(
            "Time,TimeStamp,PodName,Cpu(m)\n2022-08-22 03:51:19.6 +0000 UTC m=+0.1,1,ad-1,5\nx,2,ad-2,6",
            &[("Cpu_m_{PodName=\"ad-1\"}", 1_000, 5.0), ("Cpu_m_{PodName=\"ad-2\"}", 2_000, 6.0)],
            &[],
        );
    }

    #[test]
    fn a_bad_row_is_refused_whole_and_the_rest_goes_on() {
        check(
            "timestamp,metric,value\n1,up\nx,up,1\n1,up,\n1,up,one\n1,,1\n1,a.b,1\n1,\"up,1\n1,\"up\"x,1\n1,up,1,1\n2,up,1",
            &[("up", 2_000, 1.0)],
            &[
                "2 columns, where 3 are expected",
                "`x` is not a time (epoch seconds or milliseconds, RFC 3339, or YYYY-MM-DD hh:mm:ss in UTC)",
                "the value is missing",
                "`one` is not a number",
                "the metric name is missing",
                "character 2 of `a.b`: expected the end",
                "column 2: the quotes are not closed, or text follows them (a field ends on its line)",
                "column 2: the quotes are not closed, or text follows them (a field ends on its line)",
                "4 columns, where 3 are expected",
            ],
        );
        check(
            "timestamp,metric,job,value\n1,\"up{job=\"\"a\"\"}\",b,1",
            &[],
            &["label `job` is given twice"],
        );
        check("time,a,b\n1,2,x\n2,3,4", &[("a{b=\"x\"}", 1_000, 2.0), ("a{b=\"4\"}", 2_000, 3.0)], &[]);
    }

    #[test]
    fn a_first_row_that_tells_nothing_refuses_the_file() {
        let hint = "hint: put a header before them: timestamp,value | timestamp,metric,value | timestamp,value,LABEL,…";
        let time_hint = "hint: name the time column `timestamp`";
        for (text, cause) in [
            (
                "Source,Target,Weight\na,b,1",
                &format!(
                    "the first row starts with `Source`: neither a header with a time column nor a time\n{time_hint}"
                ),
            ),
            (
                "timestamp;value\n1;2",
                &format!(
                    "the first row starts with `timestamp;value`: neither a header with a time column nor a time\n{time_hint}"
                ),
            ),
            ("timestamp\n1", &"the header names no `value` column and no metric of its own".to_owned()),
            (
                "timestamp,metric\n1,up",
                &"the header names no `value` column and no metric of its own".to_owned(),
            ),
            ("1,2,3", &format!("without a header, 3 columns starting with a time are ambiguous\n{hint}")),
            ("1,up", &format!("without a header, 2 columns starting with a time are ambiguous\n{hint}")),
            ("timestamp,value,a b,a_b", &"label `a_b` is given twice".to_owned()),
            ("timestamp,x-1,x_1", &"the header names `x_1` twice".to_owned()),
            ("timestamp,value,metric,__name__", &"the header names `__name__` twice".to_owned()),
            ("timestamp,value,,a", &"column 3 of the header has no name".to_owned()),
            (
                "timestamp,\"value",
                &"the header cannot be read: column 2: the quotes are not closed, or text \
                follows them (a field ends on its line)"
                    .to_owned(),
            ),
        ] {
            check(text, &[], &[&format!("layout: {cause}")]);
        }
        let wide = format!("timestamp{}", ",x".repeat(COLUMNS_MAX));
        assert_eq!(read(&wide).1.len(), 1);
    }
}
