// Reads an archive as a Delta table with Apache Spark and prints one JSON line of what it saw.
// Run from source, Spark's jars on the class path: java -cp 'jars/*' SparkReads.java TABLE UNIX_NANO SCRATCH

import java.util.TreeMap;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

public class SparkReads {
    public static void main(String[] arguments) {
        String table = "delta.`" + arguments[0] + "`";
        SparkSession spark = SparkSession.builder()
            .master("local[1]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.shuffle.partitions", "1")
            .config("spark.sql.warehouse.dir", arguments[2])
            .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
            .getOrCreate();
        StringBuilder said = new StringBuilder("{");
        said.append("\"rows\":").append(count(spark, "SELECT count(*) FROM " + table));
        said.append(",\"late\":").append(
            count(spark, "SELECT count(*) FROM " + table + " WHERE time_unix_nano >= " + arguments[1]));
        said.append(",\"pods\":").append(
            count(spark, "SELECT count(DISTINCT k8s_pod_name) FROM " + table + " WHERE retention_class = 'container'"));
        said.append(",\"partitions\":").append(counts(
            spark.sql("SELECT concat(retention_class, '/', day), count(*) FROM " + table + " GROUP BY 1")));
        said.append(",\"history\":").append(counts(
            spark.sql("DESCRIBE HISTORY " + table).groupBy("operation").count()));
        System.out.println(said.append("}"));
        spark.stop();
    }

    private static long count(SparkSession spark, String query) {
        return spark.sql(query).collectAsList().get(0).getLong(0);
    }

    private static String counts(Dataset<Row> rows) {
        TreeMap<String, Long> found = new TreeMap<>();
        for (Row row : rows.collectAsList()) {
            found.put(row.getString(0), row.getLong(1));
        }
        StringBuilder said = new StringBuilder("{");
        found.forEach((name, many) -> said.append(said.length() > 1 ? "," : "").append("\"" + name + "\":" + many));
        return said.append("}").toString();
    }
}
