"""The functions that run inside step processes: a JSON job in, a JSON result out, files in the job's folder."""
