import RomulusHost

extension Configuration {
    /// Nil where none is wanted.
    func metricsFile(guest: String, _ log: Log) throws(SystemError) -> MetricsFile? {
        guard let metricsDirectory else { return nil }
        return try MetricsFile(directory: metricsDirectory, guest: guest, log: log)
    }
}
